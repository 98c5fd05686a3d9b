// Fetches what a picture shows, and says over it what could not be read.

import { unpack } from "./labels.js";
import * as packets from "./packets.js";

/**
 * Show an image, then its label maps over it; what cannot be read is told, and the rest is shown.
 *
 * @param picture gets `of`, the place whose image and labels it shows; `faults` by layer, that of the image under "";
 *   and `scored`, the promise of its scores
 * @param pane {place, name}
 * @param layers the names of one or two, the first one first
 * @param how {at: what to show of it or null, drawn(): how, stale(): whether another image was asked for since}
 */
export async function fill(picture, { place, name }, layers, { at, drawn, stale }) {
  Object.assign(picture, { of: null, faults: {}, scores: {}, scored: null });
  picture.caption.textContent = name;
  const asked = Promise.allSettled(layers.map((layer) => packets.fetched(packets.labelsAt(place, layer))));
  let image = null;
  try {
    image = await packets.image(place);
  } catch (error) {
    if (!stale()) picture.faults[""] = error.message;
  }
  if (stale()) return;
  picture.note.replaceChildren();
  picture.fitted = true;
  picture.set(drawn());
  picture.show(image, null, null);
  if (at && image) {
    picture.fitted = false;
    picture.move(...at);
  }
  const answers = await asked;
  if (stale()) return;
  answers.forEach(({ reason }, n) => reason && (picture.faults[layers[n]] = reason.message));
  const [first, second] = answers.map(({ value }) => (image && value ? unpack(value) : null));
  picture.label(first || null, second || null);
  picture.of = place;
  picture.note.classList.toggle("aside", Boolean(image));
  // Of an image that cannot be read its labels say the same.
  const told = picture.faults[""] ? [picture.faults[""]] : [...new Set(Object.values(picture.faults))];
  picture.note.replaceChildren(...told.map((text) => Object.assign(document.createElement("p"), { textContent: text })));
  if (first && second) picture.scored = packets.compare(place, ...layers).catch(() => ({}));
}
