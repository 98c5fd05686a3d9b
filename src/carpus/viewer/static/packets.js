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

export async function image(place) {
  const buffer = await fetched(`/carpus/image/${place}`);
  const [height, width] = new Int32Array(buffer, 0, 2);
  return { height, width, grey: new Uint8Array(buffer, 8) };
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
