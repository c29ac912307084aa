// The dialog with the photos of a product: upload, order and delete.

import { change, get } from "./api.js";
import { fill, h, problem } from "./dom.js";

const MAX_BYTES = 10 * 1024 * 1024;

/** Shows the photos of `product`. Resolves when the dialog is closed. */
export function showPhotos(product) {
  return new Promise((resolve) => {
    const path = `/v1/products/${encodeURIComponent(product.sku)}`;
    const list = h("div", {}), status = h("p", { class: "soft", role: "status" }), error = h("div", {});
    const files = h("input", { type: "file", id: "photo-files", accept: "image/jpeg,image/png,image/webp", multiple: true, onchange: upload });
    const close = () => { dialog.close(); dialog.remove(); resolve(true); };
    const dialog = h("dialog", { "aria-labelledby": "photos-heading" },
      h("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); close(); } },
        h("h2", { id: "photos-heading" }, `Photos of ${product.sku}`), list,
        h("label", {}, "Add photos", files, h("span", { class: "help" }, "JPEG, PNG or WebP, at most 10 MiB each")),
        status, error, h("div", { class: "actions end" }, h("button", { class: "main" }, "Close"))));
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(); });

    function draw(images) {
      fill(list, images.length
        ? h("ol", { class: "photos", "aria-label": "Photos" }, images.map((image, index) => h("li", {},
          h("img", { src: image.variants[0]?.url ?? image.url, alt: `Photo ${index + 1} of ${product.name}` }),
          h("span", { class: "soft" }, `${image.width} × ${image.height}`),
          h("div", { class: "actions" },
            button(`up-${image.id}`, "Move up", `Move photo ${index + 1} up`, index === 0, () => move(images, index, index - 1)),
            button(`down-${image.id}`, "Move down", `Move photo ${index + 1} down`, index === images.length - 1, () => move(images, index, index + 1)),
            button(`remove-${image.id}`, "Delete", `Delete photo ${index + 1}`, false, () => remove(image), "danger")))))
        : h("p", { class: "empty" }, "No photos yet."));
    }

    const button = (id, text, label, disabled, onclick, style) => h("button", { type: "button", id, "aria-label": label, disabled, onclick, class: style }, text);

    /** Runs a change, then shows the photos as they are stored now. */
    async function run(text, act) {
      fill(error);
      fill(status, `${text} …`);
      files.disabled = true;
      try {
        await act();
      } catch (failure) {
        fill(error, problem(failure));
      }
      try {
        draw((await get(path)).images);
      } catch (failure) {
        fill(error, problem(failure));
      }
      fill(status);
      files.disabled = false;
    }

    async function upload() {
      const chosen = [...files.files];
      await run("Uploading", async () => {
        for (const file of chosen) {
          if (file.size > MAX_BYTES) throw { title: "Photo is too large", message: `${file.name} is larger than 10 MiB.` };
          await change("POST", `${path}/images`, file, { intent: "add_photo" });
        }
      });
      files.value = "";
    }

    function move(images, from, to) {
      const ids = images.map((image) => image.id);
      ids.splice(to, 0, ...ids.splice(from, 1));
      return run("Saving", () => change("PUT", `${path}/images`, { ids }, { intent: "order_photos" }));
    }

    const remove = (image) => run("Deleting", () => change("DELETE", `${path}/images/${image.id}`, undefined, { intent: "delete_photo" }));

    draw(product.images);
    document.body.append(dialog);
    dialog.showModal();
  });
}
