// Fetches what `packets.py` makes, keeps the last few, and asks ahead for the neighbours.

const KEPT = 14;
const kept = new Map();

/** The bytes at an address, null where there is nothing; rejects with the reader's own words. */
export function fetched(address) {
  let promise = kept.get(address);
  kept.delete(address);
  promise ||= ask(address);
  kept.set(address, promise);
  promise.catch(() => kept.delete(address));
  for (const old of kept.keys()) {
    if (kept.size <= KEPT) break;
    kept.delete(old);
  }
  return promise;
}

async function ask(address) {
  const answer = await fetch(address);
  if (answer.status === 204) return null;
  if (!answer.ok) throw new Error(await answer.text());
  return answer.arrayBuffer();
}

/**
 * An image: its grey levels, of which `black` and `white` are the ends of the file's own window, and the `darkest` and
 * `brightest` one that is worth showing in 255ths of that window, which is what windows are told in: its pixels' own, and
 * those of the window, as far as it lies no further from them than they are wide.
 */
export async function image(place) {
  const buffer = await fetched(`/carpus/image/${place}`);
  const [height, width, bytes, black, white, lowest, highest] = new Int32Array(buffer, 0, 7);
  const grey = bytes === 1 ? new Uint8Array(buffer, 28) : new Uint16Array(buffer, 28), top = 256 ** bytes - 1;
  const shade = (level) => (255 * (level - black)) / Math.max(1, white - black);
  // A window may lie so far from all pixels that a slider over both would have all of them in one step.
  const [low, high] = [Math.floor(shade(lowest)), Math.ceil(shade(highest))], most = Math.max(255, high - low);
  const darkest = Math.max(Math.min(0, low), low - most), brightest = Math.min(Math.max(255, high), high + most);
  return { height, width, grey, top, shade, darkest, brightest };
}

export const labelsAt = (place, layer) => `/carpus/labels/${place}?layer=${encodeURIComponent(layer)}`;

export async function compare(place, first, second) {
  const layers = `first=${encodeURIComponent(first)}&second=${encodeURIComponent(second)}`;
  return JSON.parse(new TextDecoder().decode(await fetched(`/carpus/compare/${place}?${layers}`)));
}

/** Fetch what the neighbours need, one after the other, once what is shown has come. */
export async function ahead(places, layers) {
  for (const place of places) {
    await fetched(`/carpus/image/${place}`).catch(() => null);
    for (const layer of layers) await fetched(labelsAt(place, layer)).catch(() => null);
  }
}
