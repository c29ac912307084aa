// The photos of a product, as a tab: upload, order and delete.

import { change } from "./api.js";
import { empty, fill, h, problem } from "./dom.js";
import { t } from "./i18n.js";

const MAX_BYTES = 10 * 1024 * 1024;

/** Opens the photos of the product at `path`. */
export function openPhotos(panel, path, product, reload) {
  let current = product;
  const list = h("div", {}), status = h("p", { class: "soft", role: "status" }), error = h("div", {});
  const files = h("input", { type: "file", id: "photo-files", accept: "image/jpeg,image/png,image/webp", multiple: true, onchange: upload });

  const button = (id, text, label, disabled, onclick, style) => h("button", { type: "button", id, "aria-label": label, disabled, onclick, class: style }, text);

  function draw(product) {
    current = product;
    const { images } = product;
    fill(list, images.length
      ? h("ol", { class: "photos", "aria-label": t("Photos") }, images.map((image, index) => {
        const position = { number: index + 1 };
        return h("li", {},
          h("img", { src: image.variants[0]?.url ?? image.url, alt: t("Photo {number} of {name}", { ...position, name: product.name }) }),
          h("span", { class: "soft" }, `${image.width} × ${image.height}`),
          h("div", { class: "actions" },
            button(`up-${image.id}`, t("Move up"), t("Move photo {number} up", position), index === 0, () => move(index, index - 1)),
            button(`down-${image.id}`, t("Move down"), t("Move photo {number} down", position), index === images.length - 1, () => move(index, index + 1)),
            button(`remove-${image.id}`, t("Delete"), t("Delete photo {number}", position), false, () => remove(image), "danger")));
      }))
      : empty(t("No photos yet."), " ", t("The first photo represents the product in lists and orders.")));
  }

  /** Runs a change, then shows the photos as they are stored now. */
  async function run(text, act) {
    fill(error);
    fill(status, text);
    files.disabled = true;
    try {
      await act();
    } catch (failure) {
      fill(error, problem(failure));
    }
    await reload();
    fill(status);
    files.disabled = false;
  }

  async function upload() {
    const chosen = [...files.files];
    await run(t("Uploading …"), async () => {
      for (const file of chosen) {
        if (file.size > MAX_BYTES) throw { title: t("File is too large"), message: t("{name} is larger than 10 MiB.", { name: file.name }) };
        await change("POST", `${path}/images`, file, { intent: "add_photo" });
      }
    });
    files.value = "";
  }

  function move(from, to) {
    const ids = current.images.map((image) => image.id);
    ids.splice(to, 0, ...ids.splice(from, 1));
    return run(t("Saving …"), () => change("PUT", `${path}/images`, { ids }, { intent: "order_photos" }));
  }

  const remove = (image) => run(t("Deleting …"), () => change("DELETE", `${path}/images/${image.id}`, undefined, { intent: "delete_photo" }));

  fill(panel, h("section", { class: "card", "aria-label": t("Photos") }, h("h2", {}, t("Photos")), list,
    h("label", {}, t("Add photos"), files, h("span", { class: "help" }, t("JPEG, PNG or WebP, at most 10 MiB each"))), status, error));
  draw(product);
  return { refresh: draw };
}
