// A label map in the browser: unpacked from its run lengths, and the outlines of its classes.
//
// Outlines run on the borders between pixels, so that however far one zooms in they enclose exactly the labelled ones.

/** Unpack what `packets.labels` packed: one int32 a pixel, bit k = class k; box and area of every class. */
export function unpack(buffer) {
  const all = new Int32Array(buffer);
  const [height, width, count] = all;
  const words = new Int32Array(height * width);
  const boxes = [], areas = [];
  let at = 3 + count;
  for (let k = 0; k < count; k++) {
    const end = at + 2 * all[3 + k];
    let area = 0, left = width, right = 0, top = height, bottom = 0;
    for (; at < end; at += 2) {
      const start = all[at], stop = start + all[at + 1];
      for (let i = start; i < stop; i++) words[i] |= 1 << k;
      area += stop - start;
      const row = Math.floor(start / width), last = Math.floor((stop - 1) / width);
      top = Math.min(top, row);
      bottom = Math.max(bottom, last + 1);
      left = row === last ? Math.min(left, start - row * width) : 0;
      right = row === last ? Math.max(right, stop - row * width) : width;
    }
    areas.push(area);
    boxes.push(area ? { left, top, right, bottom } : null);
  }
  return { height, width, count, words, boxes, areas, paths: new Map() };
}

/** The outline of class k as a Path2D in label pixels; `coarse` leaves out what is smaller than a label pixel. */
export function outline(labels, k, coarse) {
  const key = 2 * k + (coarse ? 1 : 0);
  if (!labels.paths.has(key)) {
    const path = new Path2D();
    for (const loop of labels.boxes[k] ? loops(labels, k) : []) {
      const points = coarse ? simplified(loop, 0.8) : loop;
      path.moveTo(points[0], points[1]);
      for (let i = 2; i < points.length; i += 2) path.lineTo(points[i], points[i + 1]);
      path.closePath();
    }
    labels.paths.set(key, path);
  }
  return labels.paths.get(key);
}

/** The closed borders of class k, each as [x, y, x, y, ...] of its corners, the class on the right hand. */
export function loops(labels, k) {
  const { left, top, right, bottom } = labels.boxes[k];
  // A copy with an empty frame, so that the walk needs no limits.
  const w = right - left + 2, h = bottom - top + 2;
  const mask = new Uint8Array(w * h);
  for (let y = top; y < bottom; y++) {
    const from = y * labels.width, to = (y - top + 1) * w + 1 - left;
    for (let x = left; x < right; x++) mask[to + x] = (labels.words[from + x] >>> k) & 1;
  }
  const walked = new Uint8Array(w * h);
  const found = [];
  for (let y = 1; y < h; y++) {
    for (let x = 1; x < w; x++) {
      const at = y * w + x;
      if (mask[at] && !mask[at - w] && !walked[at]) found.push(walk(mask, walked, w, x, y, left - 1, top - 1));
    }
  }
  return found;
}

// East, south, west, north; what lies ahead of a corner on the left and on the right, as steps from its lower right pixel.
const AHEAD = [
  { dx: 1, dy: 0, left: [0, -1], right: [0, 0] },
  { dx: 0, dy: 1, left: [0, 0], right: [-1, 0] },
  { dx: -1, dy: 0, left: [-1, 0], right: [-1, -1] },
  { dx: 0, dy: -1, left: [-1, -1], right: [0, -1] },
];

function walk(mask, walked, w, startX, startY, offsetX, offsetY) {
  const points = [];
  let x = startX, y = startY, towards = 0;
  do {
    const { dx, dy } = AHEAD[towards];
    if (towards === 0) walked[y * w + x] = 1;
    x += dx;
    y += dy;
    const { left, right } = AHEAD[towards];
    const ahead = (y + right[1]) * w + x + right[0], beside = (y + left[1]) * w + x + left[0];
    const turn = !mask[ahead] ? 1 : mask[beside] ? 3 : 0;
    if (turn) points.push(x + offsetX, y + offsetY);
    towards = (towards + turn) % 4;
  } while (x !== startX || y !== startY || towards !== 0);
  return points;
}

/** The corners of a line without which it moves less than `tolerance` (Douglas and Peucker 1973). */
export function simplified(points, tolerance, closed = true) {
  const count = points.length / 2;
  if (count < 8) return points;
  const kept = new Uint8Array(count);
  let far = closed ? 0 : count - 1, most = -1;
  for (let i = 1; closed && i < count; i++) {
    const away = (points[2 * i] - points[0]) ** 2 + (points[2 * i + 1] - points[1]) ** 2;
    if (away > most) [far, most] = [i, away];
  }
  kept[0] = kept[far] = 1;
  const open = closed ? [[0, far], [far, count]] : [[0, far]];
  while (open.length) {
    const [first, last] = open.pop();
    const ax = points[2 * first], ay = points[2 * first + 1];
    const bx = points[2 * (last % count)], by = points[2 * (last % count) + 1];
    const length = Math.hypot(bx - ax, by - ay) || 1;
    let split = -1, worst = tolerance;
    for (let i = first + 1; i < last; i++) {
      const away = Math.abs((bx - ax) * (ay - points[2 * i + 1]) - (ax - points[2 * i]) * (by - ay)) / length;
      if (away > worst) [split, worst] = [i, away];
    }
    if (split >= 0) {
      kept[split] = 1;
      open.push([first, split], [split, last]);
    }
  }
  const result = [];
  for (let i = 0; i < count; i++) if (kept[i]) result.push(points[2 * i], points[2 * i + 1]);
  return result;
}
