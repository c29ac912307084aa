//! Checks the chunks of a WebP file before it is decoded (RFC 9649, section 2).
//!
//! The decoder trusts two numbers of an extended file: it allocates memory for a lossy picture by the size in that
//! picture's own header, and for metadata by the size of its chunk. Here they are compared with the size of the
//! canvas, of the frame, and of the file. It also builds as many code tables as a lossless picture asks for, however
//! small the picture is: so the size of lossless data is limited.

/// Size of the header of a file: `RIFF`, the size of the file, `WEBP`.
const FILE_HEADER_BYTES: usize = 12;
/// Size of the header of a frame of an animation: position, size, duration, flags.
const FRAME_HEADER_BYTES: usize = 16;

/// Maximum size of lossless data in bytes.
const MAX_LOSSLESS_BYTES: usize = 1024 * 1024;
/// Memory for the code tables of lossless data per byte: at most some 300 bytes. A tree has 1,024 entries of 4 bytes
/// and is described by at least 13 bytes.
const CODE_TABLE_BYTES_PER_LOSSLESS_BYTE: u64 = 320;
/// Bits of the first byte of transparency that name its compression: none, or lossless.
const ALPHA_COMPRESSION_MASK: u8 = 0b11;

const INCOMPLETE_IMAGE: &str = "the image is incomplete: its end is missing";

/// A chunk, and the number of its bytes that are missing in the file.
struct Chunk<'a> {
    name: &'a [u8; 4],
    data: &'a [u8],
    missing_bytes: usize,
}

/// Splits the first chunk off `bytes`; `None` at the end.
fn split_chunk(bytes: &[u8]) -> Option<(Chunk<'_>, &[u8])> {
    let (chunk_name, bytes) = bytes.split_first_chunk()?;
    let (size_bytes, bytes) = bytes.split_first_chunk()?;
    let size = usize::try_from(u32::from_le_bytes(*size_bytes)).ok()?;
    let data = bytes.get(..size).unwrap_or(bytes);
    let chunk = Chunk {
        name: chunk_name,
        data,
        missing_bytes: size - data.len(),
    };
    // Chunks with an odd size are followed by a byte of padding.
    let padded_size = size.saturating_add(size % 2);
    Some((chunk, bytes.get(padded_size..).unwrap_or_default()))
}

/// Checks that all pictures in a WebP file have the size `canvas_size` or that of their frame, that its metadata is
/// not larger than the file, and that it has little lossless data. Returns the memory that the decoder may need for its
/// code tables, in bytes.
///
/// # Errors
/// The reason why the file is refused.
pub(super) fn check_chunks(bytes: &[u8], canvas_size: (u32, u32)) -> Result<u64, String> {
    let mut remaining_bytes = bytes.get(FILE_HEADER_BYTES..).unwrap_or_default();
    // A simple file has a single picture, whose header is that of the file.
    let is_extended = remaining_bytes.starts_with(b"VP8X");
    let mut largest_lossless_bytes = 0;
    while let Some((chunk, next_bytes)) = split_chunk(remaining_bytes) {
        largest_lossless_bytes = largest_lossless_bytes.max(checked_lossless_bytes(&chunk)?);
        match chunk.name {
            _ if !is_extended => break,
            b"VP8 " | b"VP8L" => check_picture(&chunk, canvas_size)?,
            b"ANMF" => largest_lossless_bytes = largest_lossless_bytes.max(check_frame(&chunk)?),
            b"ALPH" | b"EXIF" | b"ICCP" | b"XMP " => check_is_complete(&chunk)?,
            // The decoder ignores unknown chunks, and bytes after the last chunk.
            _ => {}
        }
        remaining_bytes = next_bytes;
    }
    Ok(largest_lossless_bytes * CODE_TABLE_BYTES_PER_LOSSLESS_BYTE)
}

/// The number of bytes of lossless data in `chunk`, which is limited.
fn checked_lossless_bytes(chunk: &Chunk<'_>) -> Result<u64, String> {
    let is_lossless = match (chunk.name, chunk.data) {
        (b"VP8L", _) => true,
        (b"ALPH", [flags, ..]) => flags & ALPHA_COMPRESSION_MASK != 0,
        _ => false,
    };
    match chunk.data.len() {
        _ if !is_lossless => Ok(0),
        size if size <= MAX_LOSSLESS_BYTES => Ok(size as u64),
        size => Err(format!(
            "the image has {size} bytes of lossless WebP data; at most {MAX_LOSSLESS_BYTES} are allowed: send it as PNG, JPEG or lossy WebP"
        )),
    }
}

fn check_is_complete(chunk: &Chunk<'_>) -> Result<(), String> {
    if chunk.missing_bytes == 0 {
        Ok(())
    } else {
        Err(INCOMPLETE_IMAGE.to_owned())
    }
}

/// Checks a frame of an animation: its first chunk is a picture, or its transparency followed by a lossy picture.
/// Returns the largest number of bytes of lossless data in one of its chunks.
fn check_frame(frame: &Chunk<'_>) -> Result<u64, String> {
    check_is_complete(frame)?;
    let Some((header, mut remaining_bytes)) = frame.data.split_first_chunk::<FRAME_HEADER_BYTES>()
    else {
        return Err(INCOMPLETE_IMAGE.to_owned());
    };
    let read_side = |offset: usize| {
        u32::from_le_bytes([header[offset], header[offset + 1], header[offset + 2], 0])
            .saturating_add(1)
    };
    let frame_size = (read_side(6), read_side(9));
    let mut is_picture_expected = true;
    let mut largest_lossless_bytes = 0;
    while let Some((chunk, next_bytes)) = split_chunk(remaining_bytes) {
        check_is_complete(&chunk)?;
        largest_lossless_bytes = largest_lossless_bytes.max(checked_lossless_bytes(&chunk)?);
        if is_picture_expected && chunk.name != b"ALPH" {
            check_picture(&chunk, frame_size)?;
            is_picture_expected = false;
        }
        remaining_bytes = next_bytes;
    }
    if is_picture_expected {
        return Err(INCOMPLETE_IMAGE.to_owned());
    }
    Ok(largest_lossless_bytes)
}

/// Checks that the picture in `chunk` has this `size`.
fn check_picture(chunk: &Chunk<'_>, size: (u32, u32)) -> Result<(), String> {
    let picture_size = match (chunk.name, chunk.data) {
        // RFC 6386, section 9.1: the frame tag and the start code, then 14 bits each.
        (
            b"VP8 ",
            &[
                _,
                _,
                _,
                _,
                _,
                _,
                width_low,
                width_high,
                height_low,
                height_high,
                ..,
            ],
        ) => {
            let read_side =
                |low_byte, high_byte| u32::from(u16::from_le_bytes([low_byte, high_byte]) & 0x3fff);
            (
                read_side(width_low, width_high),
                read_side(height_low, height_high),
            )
        }
        // RFC 9649, section 3.4: the signature, then 14 bits each.
        (b"VP8L", &[_, byte_1, byte_2, byte_3, byte_4, ..]) => {
            let size_bits = u32::from_le_bytes([byte_1, byte_2, byte_3, byte_4]);
            ((size_bits & 0x3fff) + 1, ((size_bits >> 14) & 0x3fff) + 1)
        }
        (b"VP8 " | b"VP8L", _) => return Err(INCOMPLETE_IMAGE.to_owned()),
        _ => return Err("the image can't be decoded: a frame has no picture".to_owned()),
    };
    if picture_size == size {
        return Ok(());
    }
    Err(format!(
        "the image can't be decoded: it contains a picture of {} × {} pixels instead of {} × {}",
        picture_size.0, picture_size.1, size.0, size.1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(chunk_name: &[u8], data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len()).unwrap();
        let padding: &[u8] = if data.len() % 2 == 1 { &[0] } else { &[] };
        [chunk_name, &size.to_le_bytes()[..], data, padding].concat()
    }

    /// A chunk that claims a gigabyte.
    fn oversized_chunk(chunk_name: &[u8]) -> Vec<u8> {
        [chunk_name, &(1_u32 << 30).to_le_bytes()[..], b"data"].concat()
    }

    /// The beginning of a lossy picture.
    fn lossy_chunk(width: u16, height: u16) -> Vec<u8> {
        let (width, height) = (width.to_le_bytes(), height.to_le_bytes());
        chunk(
            b"VP8 ",
            &[&[0x10, 0, 0, 0x9d, 0x01, 0x2a][..], &width, &height].concat(),
        )
    }

    /// The beginning of a lossless picture.
    fn lossless_chunk(width: u32, height: u32) -> Vec<u8> {
        let bits = (width - 1) | ((height - 1) << 14);
        chunk(b"VP8L", &[&[0x2f][..], &bits.to_le_bytes()].concat())
    }

    fn frame_chunk(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut data = vec![0; FRAME_HEADER_BYTES];
        data[6..9].copy_from_slice(&(width - 1).to_le_bytes()[..3]);
        data[9..12].copy_from_slice(&(height - 1).to_le_bytes()[..3]);
        chunk(b"ANMF", &[data, chunks.concat()].concat())
    }

    /// Checks an extended file of 300 × 200 pixels with these chunks.
    fn check(chunks: &[Vec<u8>]) -> Result<u64, String> {
        // The check does not read the canvas from the header.
        let header = chunk(b"VP8X", &[0; 10]);
        let content = [b"WEBP".to_vec(), header, chunks.concat()].concat();
        check_chunks(&chunk(b"RIFF", &content), (300, 200))
    }

    #[test]
    fn pictures_of_the_right_size_are_accepted() {
        let (alpha, color_profile) = (chunk(b"ALPH", b"abc"), chunk(b"ICCP", b"profile"));
        for chunks in [
            vec![lossy_chunk(300, 200)],
            vec![color_profile.clone(), alpha.clone(), lossy_chunk(300, 200)],
            vec![lossless_chunk(300, 200), chunk(b"EXIF", b"")],
            vec![
                color_profile,
                frame_chunk(8, 6, &[lossless_chunk(8, 6)]),
                frame_chunk(300, 1, &[lossy_chunk(300, 1)]),
            ],
            vec![frame_chunk(
                8,
                6,
                &[alpha, lossy_chunk(8, 6), chunk(b"MORE", b"1")],
            )],
            // Bytes after the image.
            vec![lossy_chunk(300, 200), oversized_chunk(b"<htm")],
        ] {
            assert!(check(&chunks).is_ok(), "{chunks:?}");
        }
    }

    #[test]
    fn lossless_data_is_limited_and_counted() {
        let alpha = |size: usize, flags: u8| chunk(b"ALPH", &vec![flags; size]);
        let largest_size = MAX_LOSSLESS_BYTES;
        let code_table_bytes_of =
            |size: usize| Ok(size as u64 * CODE_TABLE_BYTES_PER_LOSSLESS_BYTE);
        assert_eq!(check(&[lossy_chunk(300, 200)]), code_table_bytes_of(0));
        assert_eq!(
            check(&[alpha(largest_size, 1), lossy_chunk(300, 200)]),
            code_table_bytes_of(largest_size)
        );
        // Transparency that is not compressed needs no tables.
        assert_eq!(
            check(&[alpha(largest_size + 1, 0), lossy_chunk(300, 200)]),
            code_table_bytes_of(0)
        );
        let animation = frame_chunk(8, 6, &[alpha(largest_size + 1, 1), lossy_chunk(8, 6)]);
        let simple_content =
            [b"WEBP".to_vec(), chunk(b"VP8L", &vec![0; largest_size + 1])].concat();
        for check_result in [
            check(&[alpha(largest_size + 1, 1), lossy_chunk(300, 200)]),
            check(&[animation]),
            check_chunks(&chunk(b"RIFF", &simple_content), (300, 200)),
        ] {
            let error = check_result.unwrap_err();
            assert!(error.contains("lossless WebP data"), "{error}");
        }
    }

    #[test]
    fn pictures_of_another_size_are_refused() {
        let alpha = chunk(b"ALPH", b"abcd");
        for chunks in [
            vec![lossy_chunk(16_383, 16_383)],
            vec![lossless_chunk(16_384, 1)],
            vec![lossy_chunk(300, 200), lossy_chunk(200, 300)],
            vec![frame_chunk(8, 6, &[lossy_chunk(8, 16_383)])],
            vec![frame_chunk(8, 6, &[lossless_chunk(16_384, 6)])],
            vec![frame_chunk(8, 6, &[alpha.clone(), lossy_chunk(16_383, 6)])],
            vec![
                frame_chunk(8, 6, &[lossy_chunk(8, 6)]),
                frame_chunk(8, 6, &[lossy_chunk(300, 200)]),
            ],
        ] {
            let error = check(&chunks).unwrap_err();
            assert!(error.contains(" pixels instead of "), "{error}");
        }
        // The decoder takes any chunk after the transparency for the picture.
        let mut renamed_chunk = lossy_chunk(16_383, 16_383);
        renamed_chunk[..4].copy_from_slice(b"MORE");
        let error = check(&[frame_chunk(8, 6, &[alpha, renamed_chunk])]).unwrap_err();
        assert!(error.contains("no picture"), "{error}");
    }

    #[test]
    fn chunks_that_are_larger_than_the_file_are_refused() {
        for chunk_name in [b"ICCP", b"EXIF", b"XMP ", b"ALPH", b"ANMF"] {
            let chunks = [lossy_chunk(300, 200), oversized_chunk(chunk_name)];
            assert_eq!(check(&chunks).unwrap_err(), INCOMPLETE_IMAGE);
            let frame_chunks = [lossy_chunk(8, 6), oversized_chunk(chunk_name)];
            assert_eq!(
                check(&[frame_chunk(8, 6, &frame_chunks)]).unwrap_err(),
                INCOMPLETE_IMAGE
            );
        }
        assert_eq!(check(&[chunk(b"VP8 ", b"")]).unwrap_err(), INCOMPLETE_IMAGE);
        assert_eq!(check(&[chunk(b"ANMF", b"")]).unwrap_err(), INCOMPLETE_IMAGE);
        assert_eq!(
            check(&[frame_chunk(8, 6, &[])]).unwrap_err(),
            INCOMPLETE_IMAGE
        );
    }
}
