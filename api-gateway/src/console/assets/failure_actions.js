// Actions on many failures.

import { change } from "./api.js";
import { h, showDialog, toast } from "./dom.js";
import { name, plural, t } from "./i18n.js";

/** Redrives or discards dead letters one after another. One that is gone meanwhile counts as done. */
export async function changeAll(verb, letters, onDone) {
  for (const letter of letters) {
    try {
      await change("POST", `/v1/dead-letters/${encodeURIComponent(letter.id)}/${verb}`, {}, { intent: verb });
    } catch (failure) {
      if (failure.status !== 404) throw failure;
    }
    onDone(letter);
  }
}

/** Redrives all failed steps, or those of one kind, after a confirmation. */
export async function redriveAll(path, step) {
  let redriven = 0;
  const isRetry = path === "/v1/retries/redrive";
  const finished = await showDialog({
    title: isRetry ? t("Retry all waiting steps now?") : t("Redrive all failed steps?"), submitLabel: isRetry ? t("Retry all now") : t("Redrive all"),
    text: [
      h("p", {}, t("Every step is attempted now and gets its full number of retries again. Nothing that a provider has already done is done twice.")),
      step && h("p", {}, t("Only steps of the kind “{step}”.", { step: name(step) })),
    ],
    act: async () => {
      let cursor;
      do {
        const result = await change("POST", path, { all: true, cursor, ...(step ? { step } : {}) }, { intent: "redrive_all" });
        redriven += result.redriven;
        cursor = result.next_cursor ?? undefined;
      } while (cursor);
    },
  });
  if (finished) toast(plural(redriven, "{count} step redriven.", "{count} steps redriven."));
}
