//! Photos of products: representations and requests.
//!
//! The gateway decodes an uploaded photo, stores the files and sends this description to the worker, which
//! owns the list of each product's photos. The files themselves are never sent over the broker.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    body::{self, Fields},
    id::{ImageId, Sku},
};

/// Maximum number of photos of a product.
pub const MAX_PHOTOS: usize = 20;
/// Maximum width and height of a photo in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Path under which gateways serve photos.
pub const MEDIA_PATH: &str = "/media/";
/// Largest number of products in a page of `product.list_images`.
pub const MAX_PRODUCTS_PER_IMAGE_PAGE: u32 = 1_000;

/// Format of a photo's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum ImageType {
    /// JPEG.
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// PNG.
    #[serde(rename = "image/png")]
    Png,
    /// WebP.
    #[serde(rename = "image/webp")]
    WebP,
}

impl ImageType {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Jpeg, Self::Png, Self::WebP];

    /// The media type, such as `image/jpeg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
        }
    }

    /// The format with this media type.
    pub fn from_media_type(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|image_type| image_type.as_str().eq_ignore_ascii_case(text))
    }
}

/// An uploaded photo of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "5f2b0c1e-2345-4abc-8def-0123456789ab", "url": "/media/5f2b0c1e-2345-4abc-8def-0123456789ab",
    "content_type": "image/jpeg", "width": 2400, "height": 1600,
    "variants": [
        {"url": "/media/5f2b0c1e-2345-4abc-8def-0123456789ab/320", "width": 320, "height": 213},
        {"url": "/media/5f2b0c1e-2345-4abc-8def-0123456789ab/1280", "width": 1280, "height": 853}
    ]
}))]
pub struct ProductImage {
    /// Id of the photo.
    pub id: ImageId,
    /// Path of the photo at the gateway.
    pub url: String,
    /// Format of the photo and its variants.
    pub content_type: ImageType,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Smaller copies, by width.
    pub variants: Vec<ImageVariant>,
}

/// A smaller copy of a photo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImageVariant {
    /// Path of the copy at the gateway.
    pub url: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl ProductImage {
    /// The photo that `new_image` describes.
    pub fn from_new(new_image: &AddImage) -> Self {
        let url = media_url(new_image.id);
        let variants = new_image.variants.iter().map(|size| ImageVariant {
            url: format!("{url}/{}", size.width),
            width: size.width,
            height: size.height,
        });
        Self {
            id: new_image.id,
            variants: variants.collect(),
            url,
            content_type: new_image.content_type,
            width: new_image.width,
            height: new_image.height,
        }
    }
}

/// Path of a photo at the gateway.
pub fn media_url(id: ImageId) -> String {
    format!("{MEDIA_PATH}{id}")
}

/// The photo that a URL in `image_urls` refers to; `None` for URLs on other servers.
pub fn id_of_media_url(url: &str) -> Option<ImageId> {
    url.strip_prefix(MEDIA_PATH)?.parse().ok()
}

/// `product.add_image`: adds a photo whose files are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddImage {
    /// SKU of the product.
    pub sku: Sku,
    /// Id of the stored photo; each attempt to upload it has its own.
    pub id: ImageId,
    /// Digest of the uploaded bytes: identifies the upload when it is repeated.
    pub digest: String,
    /// Format of the stored files.
    pub content_type: ImageType,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Sizes of the smaller copies.
    pub variants: Vec<ImageSize>,
}

/// Size of a smaller copy of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ImageSize {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl ImageSize {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let width = fields.required("width", side);
        let height = fields.required("height", side);
        Some(Self {
            width: width?,
            height: height?,
        })
    }
}

impl AddImage {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let id = fields.required("id", body::parsed);
        let digest = fields.required("digest", body::text(1..=100));
        let content_type = fields.required("content_type", image_type);
        let width = fields.required("width", side);
        let height = fields.required("height", side);
        let variants = fields.list("variants", 0..=8, ImageSize::read);
        Some(Self {
            sku: sku?,
            id: id?,
            digest: digest?,
            content_type: content_type?,
            width: width?,
            height: height?,
            variants: variants?,
        })
    }

    /// The request without the id, which is different in each attempt: a repeated upload under the same
    /// idempotency key is the same request.
    #[must_use]
    pub fn without_id(&self) -> Self {
        Self {
            id: ImageId::from(Uuid::nil()),
            ..self.clone()
        }
    }
}

/// `product.remove_image`: removes a photo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemoveImage {
    /// SKU of the product.
    pub sku: Sku,
    /// Id of the photo.
    pub id: ImageId,
}

impl RemoveImage {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let id = fields.required("id", body::parsed);
        Some(Self { sku: sku?, id: id? })
    }
}

/// `product.order_images`: sets the order of a product's photos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrderImages, example = json!({"ids": ["5f2b0c1e-2345-4abc-8def-0123456789ab"]}))]
pub struct ReorderImages {
    /// SKU of the product.
    #[schema(ignore)]
    pub sku: Sku,
    /// Ids of all photos of the product, in the new order.
    #[schema(max_items = 20)]
    pub ids: Vec<ImageId>,
}

impl ReorderImages {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let sku = fields.required("sku", body::parsed);
        let ids = fields.required("ids", image_ids);
        Some(Self {
            sku: sku?,
            ids: ids?,
        })
    }
}

/// `product.list_images`: the ids of all photos, by product. Gateways delete stored files that are not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListImages {
    /// Maximum number of products.
    pub limit: u32,
    /// SKU of the previous page's last product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Sku>,
}

impl ListImages {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let limit = fields.optional(
            "limit",
            body::integer(1..=i64::from(MAX_PRODUCTS_PER_IMAGE_PAGE)),
        );
        let cursor = fields.optional("cursor", body::parsed);
        Some(Self {
            limit: limit
                .and_then(|limit| u32::try_from(limit).ok())
                .unwrap_or(MAX_PRODUCTS_PER_IMAGE_PAGE),
            cursor,
        })
    }
}

/// The photos of a product in the reply to `product.list_images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductImageIds {
    /// SKU of the product.
    pub sku: Sku,
    /// Ids of its photos.
    pub ids: Vec<ImageId>,
}

fn image_ids(value: Value) -> Result<Vec<ImageId>, String> {
    let Value::Array(id_values) = value else {
        return Err("must be a list of ids".to_owned());
    };
    if id_values.len() > MAX_PHOTOS {
        return Err(format!("must have at most {MAX_PHOTOS} entries"));
    }
    id_values
        .into_iter()
        .map(|id_value| body::parsed(id_value).map_err(|error| format!("each entry {error}")))
        .collect()
}

fn image_type(value: Value) -> Result<ImageType, String> {
    ImageType::from_media_type(&body::string(value)?)
        .ok_or_else(|| "must be image/jpeg, image/png or image/webp".to_owned())
}

fn side(value: Value) -> Result<u32, String> {
    let side = body::integer(1..=i64::from(MAX_SIDE))(value)?;
    u32::try_from(side).map_err(|error| error.to_string())
}
