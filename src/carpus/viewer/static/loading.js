// Fetches what a picture shows, and says over it what is on its way and what could not be read.

import { unpack } from "./labels.js";
import * as packets from "./packets.js";
import { h } from "./page.js";

/**
 * Show an image, then each of its label maps over it once it comes; what cannot be read is told, and the rest is shown.
 *
 * @param picture gets `of`, the place whose image it shows; `awaited`, the layers whose labels are on their way; `faults`
 *   by layer, that of the image under ""; and `scored`, the promise of its scores
 * @param pane {place, name}
 * @param layers {names: of one or two layers, the first one first, runs: those of them that are runs}
 * @param how {at: what to show of it or null, drawn(): how, stale(): whether another image was asked for since,
 *   came(): called after each label map}
 */
export async function fill(picture, { place, name }, { names, runs }, { at, drawn, stale, came }) {
  Object.assign(picture, { of: null, awaited: names, faults: {}, scores: {}, scored: null });
  picture.caption.textContent = name;
  const asked = names.map((layer) => packets.fetched(packets.labelsAt(place, layer)));
  asked.forEach((promise) => promise.catch(() => null)); // a fault is told below, once the image has come
  let image = null;
  try {
    image = await packets.image(place);
  } catch (error) {
    if (!stale()) picture.faults[""] = error.message;
  }
  if (stale()) return;
  picture.fitted = true;
  picture.set(drawn());
  picture.show(image, null, null);
  picture.of = place;
  if (at && image) {
    picture.fitted = false;
    picture.move(...at);
  }
  tell(picture, runs);
  const labels = names.map(() => null);
  await Promise.all(asked.map(async (promise, n) => {
    let fault = null;
    const buffer = await promise.catch((error) => ((fault = error), null));
    if (stale()) return;
    if (fault) picture.faults[names[n]] = fault.message;
    labels[n] = image && buffer ? unpack(buffer) : null;
    picture.awaited = picture.awaited.filter((layer) => layer !== names[n]);
    picture.label(labels[0], labels[1] || null);
    tell(picture, runs);
    came();
  }));
  if (stale()) return;
  if (labels[0] && labels[1]) picture.scored = packets.compare(place, ...names).catch(() => ({}));
}

/** Say what could not be read, and what is on its way. */
function tell({ note, image, faults, awaited: names }, runs) {
  // Of an image that cannot be read its labels say the same.
  const faulty = faults[""] ? [faults[""]] : [...new Set(Object.values(faults))];
  const coming = image ? names.map((name) => awaited(name, runs)) : [];
  note.classList.toggle("aside", Boolean(image));
  note.classList.toggle("awaited", !faulty.length);
  note.replaceChildren(...[...faulty, ...coming].map((text) => h("p", {}, text)));
}

/** What is said of a layer whose labels are on their way; a run loads its network first. */
export const awaited = (name, runs) =>
  runs.includes(name) ? `${name} is looking at this image` : `the labels of ${name} are on their way`;
