// The addresses of a customer, in a card.

import { change } from "./api.js";
import { empty, h, showDialog, toast } from "./dom.js";
import { t } from "./i18n.js";

const LABELS = {
  name: t("Name"), line1: t("Street"), line2: t("Address line 2"), postal_code: t("Postal code"), city: t("City"), country: t("Country"),
};
const MAX_ADDRESSES = 10;

/** The card; `path` is that of the customer. */
export function addressCard(path, customer, reload) {
  async function save(addresses, text) {
    await change("PATCH", path, { addresses: addresses.length ? addresses : null }, { intent: "edit_addresses", etag: customer.etag });
    return text;
  }

  /** Edits the address at `index`, or adds one. */
  async function edit(index) {
    const address = customer.addresses[index] ?? {};
    const others = Object.keys(address).filter((name) => !(name in LABELS));
    const names = [...Object.keys(LABELS), ...others];
    const saved = await showDialog({
      title: index === undefined ? t("Add an address") : t("Edit the address"), submitLabel: t("Save"),
      fields: names.map((name) => ({ name: `address-${name}`, label: LABELS[name] ?? name, value: address[name] })),
      act: (values) => {
        const given = Object.fromEntries(names.map((name) => [name, values[`address-${name}`]]).filter(([, text]) => text));
        const isEmpty = Object.keys(given).length === 0;
        if (isEmpty && index === undefined) throw { title: t("Nothing was changed"), message: t("Enter the address.") };
        const addresses = [...customer.addresses];
        addresses.splice(index ?? addresses.length, 1, ...(isEmpty ? [] : [given]));
        return save(addresses, isEmpty ? t("Address removed.") : t("Address saved."));
      },
    });
    if (saved) toast(saved);
    await reload();
  }

  async function remove(index) {
    const removed = await showDialog({
      title: t("Remove the address?"), submitLabel: t("Remove"), isDanger: true, text: t("Orders that were placed keep their shipping address."),
      act: () => save(customer.addresses.filter((_, position) => position !== index), t("Address removed.")),
    });
    if (removed) toast(removed);
    await reload();
  }

  return h("section", { class: "card", "aria-label": t("Addresses") },
    h("div", { class: "bar" }, h("h2", {}, t("Addresses")),
      customer.addresses.length < MAX_ADDRESSES && h("button", { id: "add-address", onclick: () => edit() }, t("Add address"))),
    customer.addresses.length > 0
      ? h("ul", { class: "addresses" }, customer.addresses.map((address, index) => h("li", {},
        h("address", {}, Object.values(sorted(address)).map((line) => h("div", {}, line))),
        h("div", { class: "actions" },
          h("button", { id: `edit-address-${index}`, "aria-label": t("Edit address {number}", { number: index + 1 }), onclick: () => edit(index) }, t("Edit")),
          h("button", { id: `remove-address-${index}`, "aria-label": t("Remove address {number}", { number: index + 1 }), onclick: () => remove(index) }, t("Remove"))))))
      : empty(t("No addresses.")));
}

/** The address with its known parts in the order of an envelope. */
function sorted(address) {
  const known = Object.keys(LABELS).filter((name) => name in address).map((name) => [name, address[name]]);
  return Object.fromEntries([...known, ...Object.entries(address)]);
}
