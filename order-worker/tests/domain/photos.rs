//! Photos of products: the list of references.

use serde_json::{Value, json};
use shared::{
    outcome::{Code, Failure},
    request::Request,
};

use crate::shop::Shop;

const PHOTO_IDS: [&str; 3] = [
    "5f2b0c1e-2345-4abc-8def-0123456789a1",
    "5f2b0c1e-2345-4abc-8def-0123456789a2",
    "5f2b0c1e-2345-4abc-8def-0123456789a3",
];

fn new_photo(photo_id: &str) -> Value {
    json!({
        "sku": "A", "id": photo_id, "digest": "d", "content_type": "image/png", "width": 400, "height": 300,
        "variants": [{"width": 320, "height": 240}],
    })
}

fn refusal_code(outcome: Result<Value, Failure>) -> Code {
    outcome.unwrap_err().code
}

#[test]
fn photos_are_added_ordered_and_removed() {
    let mut shop = Shop::with_stock(&[("A", "main", 1)]);
    for photo_id in PHOTO_IDS {
        let photo = shop.execute_request("product.add_image", new_photo(photo_id));
        let photo_url = format!("/media/{photo_id}");
        assert_eq!(
            photo.unwrap(),
            json!({
                "id": photo_id, "url": photo_url, "content_type": "image/png", "width": 400, "height": 300,
                "variants": [{"url": format!("{photo_url}/320"), "width": 320, "height": 240}],
            })
        );
    }
    let repeated_result = shop.execute_request("product.add_image", new_photo(PHOTO_IDS[0]));
    assert_eq!(refusal_code(repeated_result), Code::InvalidState);
    let reorder_request = json!({"sku": "A", "ids": [PHOTO_IDS[2], PHOTO_IDS[0], PHOTO_IDS[1]]});
    let product = shop
        .execute_request("product.order_images", reorder_request)
        .unwrap();
    assert_eq!(product["images"][0]["id"], PHOTO_IDS[2]);
    assert_eq!(product["image_urls"][0], format!("/media/{}", PHOTO_IDS[2]));
    let removal = json!({"sku": "A", "id": PHOTO_IDS[2]});
    let product = shop
        .execute_request("product.remove_image", removal.clone())
        .unwrap();
    assert_eq!(product["images"][0]["id"], PHOTO_IDS[0]);
    let repeated_result = shop.execute_request("product.remove_image", removal);
    assert_eq!(refusal_code(repeated_result), Code::NotFound);
    let incomplete_request = json!({"sku": "A", "ids": [PHOTO_IDS[0]]});
    let refused_outcome = shop.execute_request("product.order_images", incomplete_request);
    assert_eq!(refusal_code(refused_outcome), Code::InvalidRequest);
}

#[test]
fn repeated_upload_is_the_same_request_whatever_its_id() {
    let read_image = |photo| match Request::read("product.add_image", photo).unwrap() {
        Request::AddImage(request) => request,
        other_request => panic!("{}", other_request.pattern()),
    };
    let (first_image, second_image) = (
        read_image(new_photo(PHOTO_IDS[0])),
        read_image(new_photo(PHOTO_IDS[1])),
    );
    assert_ne!(first_image, second_image);
    assert_eq!(first_image.without_id(), second_image.without_id());
    let mut photo_with_other_digest = new_photo(PHOTO_IDS[0]);
    photo_with_other_digest["digest"] = json!("e");
    assert_ne!(
        read_image(photo_with_other_digest).without_id(),
        first_image.without_id()
    );
}
