//! Decodes an uploaded photo within limits of size, memory and time, and encodes it anew.
//!
//! Only decoded pixels are kept: no metadata (EXIF, GPS position, comments, colour profiles) and no other bytes
//! of the upload, so that a file that is a valid image and a valid script at once is stored as an image only.
//! The EXIF orientation is applied before, and colours are converted to sRGB. Of an animation, the first picture
//! is kept.

use std::io::Cursor;

use axum::http::StatusCode;
use image::{
    DynamicImage, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::{
        jpeg::JpegEncoder,
        png::{CompressionType, FilterType, PngEncoder},
        webp::WebPEncoder,
    },
    imageops,
    metadata::Orientation,
};
use moxcms::{ColorProfile, Layout, TransformOptions};
use shared::{
    outcome::{Code, Failure},
    product::{ImageSize, ImageType, MAX_SIDE},
};

use super::{
    storage::{FULL_SIZE, VARIANT_WIDTHS},
    webp,
};
use crate::problem::Problem;

/// Maximum number of pixels of a photo.
const MAX_PIXELS: u64 = 25_000_000;
/// Maximum size of a decoded photo in bytes: 25 million pixels with alpha, or half as many with 16 bits each.
const MAX_DECODED_BYTES: u64 = 128 * 1024 * 1024;
/// Memory for the metadata of a PNG file: texts, EXIF and the inflated colour profile. A larger profile is ignored,
/// other metadata is refused. The decoder's limit applies to this and a row of pixels only, and the decoders of other
/// formats have none: their memory is bounded by the size of the photo, which is checked before.
const MAX_PNG_METADATA_BYTES: u64 = 8 * 1024 * 1024;
/// Maximum size of a colour profile in bytes; larger ones are ignored.
const MAX_COLOR_PROFILE_BYTES: usize = 1024 * 1024;
/// Quality of stored JPEG files.
const JPEG_QUALITY: u8 = 85;

/// The reason why an upload is refused.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The content is of another type than accepted or declared: 415.
    WrongType(String),
    /// The content can't be decoded, or exceeds a limit: 422.
    Unreadable(String),
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let (message, status) = match rejection {
            Rejection::WrongType(message) => (message, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Rejection::Unreadable(message) => (message, StatusCode::UNPROCESSABLE_ENTITY),
        };
        Problem::with_status(Failure::new(Code::InvalidRequest, message), status)
    }
}

/// A photo and its smaller copies, ready to be stored.
pub(crate) struct EncodedPhoto {
    pub(crate) content_type: ImageType,
    pub(crate) size: ImageSize,
    pub(crate) variants: Vec<ImageSize>,
    /// The files by the name of their variant.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
}

/// The checked header of an upload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PhotoHeader {
    content_type: ImageType,
    decoded_bytes: u64,
    /// Memory for the decoder's code tables.
    code_table_bytes: u64,
}

impl PhotoHeader {
    /// Checks the header of `bytes`: the type against the `declared_type`, and the size. Decodes no pixels.
    ///
    /// # Errors
    /// When the photo is refused.
    pub(crate) fn read(bytes: &[u8], declared_type: ImageType) -> Result<Self, Rejection> {
        if bytes.is_empty() {
            return Err(Rejection::Unreadable(
                "the body is empty; send the bytes of an image".to_owned(),
            ));
        }
        let content_type = match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => ImageType::Jpeg,
            Ok(ImageFormat::Png) => ImageType::Png,
            Ok(ImageFormat::WebP) => ImageType::WebP,
            Ok(other_format) => {
                return Err(Rejection::WrongType(format!(
                    "the content is {}; send image/jpeg, image/png or image/webp",
                    other_format.to_mime_type()
                )));
            }
            Err(_) => {
                return Err(Rejection::Unreadable(
                    "the content is not an image; send image/jpeg, image/png or image/webp"
                        .to_owned(),
                ));
            }
        };
        if content_type != declared_type {
            return Err(Rejection::WrongType(format!(
                "the Content-Type is {}, but the content is {}",
                declared_type.as_str(),
                content_type.as_str()
            )));
        }
        if content_type == ImageType::Jpeg && !is_complete_jpeg(bytes) {
            return Err(Rejection::Unreadable(
                "the image is incomplete: its end is missing".to_owned(),
            ));
        }
        let decoder = decoder(bytes, content_type).map_err(|error| unreadable(&error))?;
        let (width, height) = decoder.dimensions();
        let pixel_count = u64::from(width) * u64::from(height);
        if width > MAX_SIDE || height > MAX_SIDE || pixel_count > MAX_PIXELS {
            return Err(Rejection::Unreadable(format!(
                "the image has {width} × {height} pixels; at most {MAX_SIDE} on a side and {MAX_PIXELS} in total are allowed"
            )));
        }
        let decoded_bytes = decoder.total_bytes();
        if decoded_bytes > MAX_DECODED_BYTES {
            return Err(Rejection::Unreadable(format!(
                "the decoded image has {decoded_bytes} bytes; at most {MAX_DECODED_BYTES} are allowed"
            )));
        }
        let code_table_bytes = if content_type == ImageType::WebP {
            webp::check_chunks(bytes, (width, height)).map_err(Rejection::Unreadable)?
        } else {
            0
        };
        Ok(Self {
            content_type,
            decoded_bytes,
            code_table_bytes,
        })
    }

    /// Estimate of the memory for decoding the photo, in MiB: the pixels, and twice as much for the decoder and the
    /// copies, and the decoder's code tables.
    pub(crate) fn memory_mib(&self) -> u32 {
        let memory_bytes = 3 * self.decoded_bytes + self.code_table_bytes;
        let mebibytes = memory_bytes.div_ceil(1024 * 1024).max(1);
        u32::try_from(mebibytes).unwrap_or(u32::MAX)
    }
}

/// Decodes `bytes` and encodes the photo with its smaller copies.
///
/// # Errors
/// When the content is damaged.
pub(crate) fn decode_and_reencode(
    bytes: &[u8],
    header: &PhotoHeader,
) -> Result<EncodedPhoto, Rejection> {
    let photo = decode(bytes, header.content_type).map_err(|error| unreadable(&error))?;
    let size = size_of(&photo);
    let mut files = Vec::with_capacity(1 + VARIANT_WIDTHS.len());
    let mut variants = Vec::with_capacity(VARIANT_WIDTHS.len());
    // From the largest to the smallest: each copy is scaled from the one before.
    let mut larger_copy = None;
    for (width, variant_name) in VARIANT_WIDTHS.into_iter().rev() {
        if width >= size.width {
            continue;
        }
        let copy = scale_down(larger_copy.as_ref().unwrap_or(&photo), size, width);
        files.push((variant_name, encode(&copy, header.content_type)?));
        variants.insert(0, size_of(&copy));
        larger_copy = Some(copy);
    }
    drop(larger_copy);
    files.push((FULL_SIZE, encode(&photo, header.content_type)?));
    Ok(EncodedPhoto {
        content_type: header.content_type,
        size,
        variants,
        files,
    })
}

fn size_of(image: &DynamicImage) -> ImageSize {
    ImageSize {
        width: image.width(),
        height: image.height(),
    }
}

fn unreadable(image_error: &ImageError) -> Rejection {
    Rejection::Unreadable(match image_error {
        ImageError::IoError(io_error) if io_error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the image is incomplete: its end is missing".to_owned()
        }
        ImageError::Limits(_) => "the image needs too much memory to be decoded".to_owned(),
        image_error => format!("the image can't be decoded: {image_error}"),
    })
}

fn decoder(bytes: &[u8], content_type: ImageType) -> Result<impl ImageDecoder + '_, ImageError> {
    let format = match content_type {
        ImageType::Jpeg => ImageFormat::Jpeg,
        ImageType::Png => ImageFormat::Png,
        ImageType::WebP => ImageFormat::WebP,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_PNG_METADATA_BYTES);
    reader.limits(limits);
    reader.into_decoder()
}

/// Decodes to 8 bits per channel, upright.
fn decode(bytes: &[u8], content_type: ImageType) -> Result<DynamicImage, ImageError> {
    let mut decoder = decoder(bytes, content_type)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let color_profile = decoder.icc_profile().ok().flatten();
    let color_profile = color_profile.filter(|profile| profile.len() <= MAX_COLOR_PROFILE_BYTES);
    let decoded_image = DynamicImage::from_decoder(decoder)?;
    let color_type = decoded_image.color();
    let mut photo = match (color_type.has_alpha(), color_type.has_color()) {
        (true, _) => DynamicImage::ImageRgba8(decoded_image.into_rgba8()),
        (false, true) => DynamicImage::ImageRgb8(decoded_image.into_rgb8()),
        (false, false) => DynamicImage::ImageLuma8(decoded_image.into_luma8()),
    };
    if let Some(color_profile) = color_profile {
        convert_to_srgb(&mut photo, &color_profile);
    }
    photo.apply_orientation(orientation);
    Ok(photo)
}

/// Converts the colours of `photo` from its ICC profile. Without a usable profile they are taken for sRGB, as
/// browsers do.
fn convert_to_srgb(photo: &mut DynamicImage, color_profile: &[u8]) {
    let Ok(color_profile) = ColorProfile::new_from_slice(color_profile) else {
        return;
    };
    let (layout, pixel_bytes): (_, &mut [u8]) = match photo {
        DynamicImage::ImageRgb8(pixels) => (Layout::Rgb, pixels),
        DynamicImage::ImageRgba8(pixels) => (Layout::Rgba, pixels),
        // A grey picture has hardly anything to convert.
        _ => return,
    };
    let transform = color_profile.create_transform_8bit(
        layout,
        &ColorProfile::new_srgb(),
        layout,
        TransformOptions::default(),
    );
    if let Ok(transform) = transform {
        let part_bytes = 4 * 3 * MAX_SIDE as usize;
        // By parts, so that no second copy of the photo is needed. A part has whole pixels of three or four bytes.
        for part in pixel_bytes.chunks_mut(part_bytes) {
            let source_pixels = part.to_vec();
            if transform.transform(&source_pixels, part).is_err() {
                return;
            }
        }
    }
}

/// A copy of `image` with `width` pixels, in the proportions of `size`.
fn scale_down(image: &DynamicImage, size: ImageSize, width: u32) -> DynamicImage {
    let scaled_height = (u64::from(size.height) * u64::from(width)).div_ceil(u64::from(size.width));
    let height = u32::try_from(scaled_height).unwrap_or(u32::MAX).max(1);
    // The sharp filter needs sixteen bytes for each pixel of a row or column: it gets at most twice the size.
    let (twice_width, twice_height) = (2 * width, 2 * height);
    if image.width() > twice_width && image.height() > twice_height {
        let double_size_image = image.thumbnail_exact(twice_width, twice_height);
        return double_size_image.resize_exact(width, height, imageops::FilterType::Lanczos3);
    }
    image.resize_exact(width, height, imageops::FilterType::Lanczos3)
}

fn encode(image: &DynamicImage, content_type: ImageType) -> Result<Vec<u8>, Rejection> {
    let mut bytes = Vec::new();
    let (pixel_bytes, color_type) = (image.as_bytes(), image.color().into());
    let (width, height) = (image.width(), image.height());
    let encode_result = match content_type {
        ImageType::Jpeg => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(
            pixel_bytes,
            width,
            height,
            color_type,
        ),
        ImageType::Png => {
            PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
                .write_image(pixel_bytes, width, height, color_type)
        }
        ImageType::WebP => WebPEncoder::new_lossless(&mut bytes).write_image(
            pixel_bytes,
            width,
            height,
            color_type,
        ),
    };
    encode_result
        .map_err(|error| Rejection::Unreadable(format!("the image can't be encoded: {error}")))?;
    Ok(bytes)
}

/// Whether a JPEG file has its end marker. The decoder fills the missing part of a truncated file with grey.
fn is_complete_jpeg(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    let mut position = 2;
    loop {
        // A marker: 0xff, possibly repeated, and its code.
        if bytes.get(position) != Some(&0xff) {
            return false;
        }
        while bytes.get(position) == Some(&0xff) {
            position += 1;
        }
        let Some(&marker_code) = bytes.get(position) else {
            return false;
        };
        position += 1;
        match marker_code {
            END_OF_IMAGE => return true,
            // Markers without a length: restarts and TEM.
            0x01 | 0xd0..=0xd7 => continue,
            _ => {}
        }
        let Some(&[high_byte, low_byte]) = bytes.get(position..position + 2) else {
            return false;
        };
        position += usize::from(u16::from_be_bytes([high_byte, low_byte]));
        if marker_code == START_OF_SCAN {
            // Compressed data; in it, 0xff is followed by zero or a restart marker.
            loop {
                match (bytes.get(position), bytes.get(position + 1)) {
                    (Some(0xff), Some(0x00 | 0xd0..=0xd7)) => position += 2,
                    (Some(0xff), Some(_)) => break,
                    (Some(_), Some(_)) => position += 1,
                    _ => return false,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    fn encode_gradient(width: u32, height: u32, content_type: ImageType) -> Vec<u8> {
        let pixels = RgbImage::from_fn(width, height, |x, y| {
            Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 128])
        });
        encode(&DynamicImage::ImageRgb8(pixels), content_type).unwrap()
    }

    fn rejection_message(result: Result<PhotoHeader, Rejection>) -> String {
        match result {
            Ok(header) => panic!("accepted: {header:?}"),
            Err(Rejection::WrongType(message) | Rejection::Unreadable(message)) => message,
        }
    }

    #[test]
    fn copies_are_smaller_and_keep_the_proportions() {
        for content_type in ImageType::ALL {
            let upload = encode_gradient(1600, 800, content_type);
            let header = PhotoHeader::read(&upload, content_type).unwrap();
            let photo = decode_and_reencode(&upload, &header).unwrap();
            let sizes: Vec<_> = photo
                .variants
                .iter()
                .map(|size| (size.width, size.height))
                .collect();
            assert_eq!(sizes, [(320, 160), (1280, 640)]);
            assert_eq!((photo.size.width, photo.size.height), (1600, 800));
        }
        let upload = encode_gradient(320, 10, ImageType::Png);
        let header = PhotoHeader::read(&upload, ImageType::Png).unwrap();
        assert!(
            decode_and_reencode(&upload, &header)
                .unwrap()
                .variants
                .is_empty()
        );
    }

    /// A PNG file of one color with a colour profile.
    fn png_with_profile(color: Rgb<u8>, color_profile: Vec<u8>) -> Vec<u8> {
        let mut upload = Vec::new();
        let mut encoder = PngEncoder::new(&mut upload);
        encoder.set_icc_profile(color_profile).unwrap();
        let pixels = DynamicImage::ImageRgb8(RgbImage::from_pixel(8, 8, color));
        let color_type = pixels.color().into();
        encoder
            .write_image(pixels.as_bytes(), 8, 8, color_type)
            .unwrap();
        upload
    }

    /// The color that is stored for `upload`.
    fn stored_color(upload: &[u8]) -> Rgb<u8> {
        let header = PhotoHeader::read(upload, ImageType::Png).unwrap();
        let photo = decode_and_reencode(upload, &header).unwrap();
        let stored_image = image::load_from_memory(&photo.files[0].1).unwrap();
        *stored_image.to_rgb8().get_pixel(4, 4)
    }

    #[test]
    fn colors_are_converted_to_srgb() {
        let profile = ColorProfile::new_display_p3().encode().unwrap();
        let upload = png_with_profile(Rgb([200, 100, 50]), profile);
        // The red of Display P3 is outside of sRGB's: the same colour has a larger red value in sRGB.
        let Rgb([red, _, blue]) = stored_color(&upload);
        assert!(red > 205 && blue < 50, "{red} {blue}");
    }

    #[test]
    fn large_color_profiles_are_ignored() {
        let color = Rgb([200, 100, 50]);
        let mut profile = ColorProfile::new_display_p3().encode().unwrap();
        profile.resize(MAX_COLOR_PROFILE_BYTES, 0);
        assert_ne!(
            stored_color(&png_with_profile(color, profile.clone())),
            color
        );
        profile.push(0);
        assert_eq!(stored_color(&png_with_profile(color, profile)), color);
    }

    #[test]
    fn compressed_color_profile_is_not_inflated_beyond_the_limit() {
        let color = Rgb([200, 100, 50]);
        let upload = png_with_profile(color, vec![0; 16 * 1024 * 1024]);
        assert!(upload.len() < 1024 * 1024, "{}", upload.len());
        let mut decoder = decoder(&upload, ImageType::Png).unwrap();
        assert!(decoder.icc_profile().unwrap().is_none());
        assert_eq!(stored_color(&upload), color);
    }

    #[test]
    fn animated_webp_is_decoded_and_a_larger_picture_in_it_is_refused() {
        let animation = |canvas_side: u8, picture_side: u32| {
            let picture = encode_gradient(picture_side, picture_side, ImageType::WebP);
            // Without the header of the file: one chunk.
            let picture = &picture[12..];
            let (canvas_bytes, frame_size) = ([canvas_side - 1, 0, 0], [7, 0, 0]);
            let frame = [
                &[0; 6],
                &frame_size[..],
                &frame_size,
                &[100, 0, 0, 0],
                picture,
            ]
            .concat();
            let chunk = |name: &[u8; 4], data: &[u8]| {
                let size = u32::try_from(data.len()).unwrap();
                [name, &size.to_le_bytes()[..], data].concat()
            };
            let riff_content = [
                b"WEBP".to_vec(),
                chunk(
                    b"VP8X",
                    &[&[2, 0, 0, 0][..], &canvas_bytes, &canvas_bytes].concat(),
                ),
                chunk(b"ANIM", &[0; 6]),
                chunk(b"ANMF", &frame),
            ];
            chunk(b"RIFF", &riff_content.concat())
        };
        let upload = animation(16, 8);
        let header = PhotoHeader::read(&upload, ImageType::WebP).unwrap();
        let photo = decode_and_reencode(&upload, &header).unwrap();
        assert_eq!((photo.size.width, photo.size.height), (16, 16));
        let message_text = rejection_message(PhotoHeader::read(&animation(16, 9), ImageType::WebP));
        assert!(
            message_text.contains("9 × 9 pixels instead of 8 × 8"),
            "{message_text}"
        );
    }

    #[test]
    fn a_truncated_jpeg_is_incomplete_wherever_it_is_cut() {
        let upload = encode_gradient(64, 64, ImageType::Jpeg);
        assert!(is_complete_jpeg(&upload));
        for length in 0..upload.len() {
            assert!(!is_complete_jpeg(&upload[..length]), "cut at {length}");
        }
    }

    #[test]
    fn wrong_type_and_empty_body_are_named() {
        let jpeg = encode_gradient(8, 8, ImageType::Jpeg);
        let message_text = rejection_message(PhotoHeader::read(&jpeg, ImageType::Png));
        assert_eq!(
            message_text,
            "the Content-Type is image/png, but the content is image/jpeg"
        );
        assert!(rejection_message(PhotoHeader::read(b"", ImageType::Png)).contains("empty"));
        assert!(
            rejection_message(PhotoHeader::read(b"<html>", ImageType::Png))
                .contains("not an image")
        );
        assert!(
            rejection_message(PhotoHeader::read(b"GIF89a", ImageType::Png)).contains("image/gif")
        );
    }
}
