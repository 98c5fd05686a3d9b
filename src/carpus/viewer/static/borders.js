// The border of a class in one label map held against that in another: where they agree, and where they do not.

import { loops, simplified } from "./labels.js";

const AGREED = 0, OUTSIDE = 1, INSIDE = 2;

// From a corner of a border, by the direction it leaves in (see `loops`): the pixel of the class beside the next step.
const BESIDE = { "1,0": [0, 0], "0,1": [-1, 0], "-1,0": [-1, -1], "0,-1": [0, -1] };

/**
 * The border of class k in `own` as three Path2Ds in label pixels: `agreed` where `other` has a border pixel within
 * `tolerance` pixels, which is what the surface Dice counts, and elsewhere `outside` or `inside` of the other's class.
 */
export function departures(own, other, k, tolerance, coarse) {
  if (own.heldAgainst !== other) Object.assign(own, { heldAgainst: other, departures: new Map() });
  const key = 2 * k + (coarse ? 1 : 0);
  if (!own.departures.has(key)) {
    const paths = [new Path2D(), new Path2D(), new Path2D()];
    const told = own.boxes[k] ? teller(own, other, k, tolerance) : null;
    for (const loop of told ? loops(own, k) : [])
      for (const { of, points, closed } of pieces(loop, told)) draw(paths[of], points, closed, coarse);
    own.departures.set(key, { agreed: paths[AGREED], outside: paths[OUTSIDE], inside: paths[INSIDE] });
  }
  return own.departures.get(key);
}

/** What a border pixel (x, y) of `own` is. */
function teller(own, other, k, tolerance) {
  const { left, top, right, bottom } = own.boxes[k], width = right - left;
  const near = new Uint8Array(width * (bottom - top));
  const box = other.boxes[k], reach = Math.ceil(tolerance);
  const has = (x, y) => x >= 0 && y >= 0 && x < other.width && y < other.height && (other.words[y * other.width + x] >>> k) & 1;
  if (box) {
    for (let y = Math.max(box.top, top - reach); y < Math.min(box.bottom, bottom + reach); y++) {
      for (let x = Math.max(box.left, left - reach); x < Math.min(box.right, right + reach); x++) {
        if (!has(x, y) || (has(x - 1, y) && has(x + 1, y) && has(x, y - 1) && has(x, y + 1))) continue;
        for (let v = Math.max(top, y - reach); v <= Math.min(bottom - 1, y + reach); v++)
          for (let u = Math.max(left, x - reach); u <= Math.min(right - 1, x + reach); u++)
            if ((u - x) ** 2 + (v - y) ** 2 <= tolerance ** 2) near[(v - top) * width + u - left] = 1;
      }
    }
  }
  return (x, y) => (near[(y - top) * width + x - left] ? AGREED : has(x, y) ? INSIDE : OUTSIDE);
}

/** A closed line cut wherever what it is changes: [{of, points: [x, y, ...], closed}]. */
function pieces(loop, told) {
  const corners = loop.length / 2, steps = [];
  for (let i = 0; i < corners; i++) {
    let [x, y] = [loop[2 * i], loop[2 * i + 1]];
    const next = (i + 1) % corners, [endX, endY] = [loop[2 * next], loop[2 * next + 1]];
    const [dx, dy] = [Math.sign(endX - x), Math.sign(endY - y)], [right, down] = BESIDE[`${dx},${dy}`];
    for (let corner = true; x !== endX || y !== endY; x += dx, y += dy, corner = false)
      steps.push({ x, y, corner, of: told(x + right, y + down) });
  }
  const first = steps.findIndex(({ of }, i) => of !== steps.at(i - 1).of);
  if (first < 0) return [{ of: steps[0].of, points: loop, closed: true }];
  const found = [];
  for (let i = 0; i < steps.length; i++) {
    const { x, y, corner, of } = steps[(first + i) % steps.length], last = found.at(-1);
    if (last?.of === of) corner && last.points.push(x, y);
    else {
      last?.points.push(x, y);
      found.push({ of, points: [x, y], closed: false });
    }
  }
  found.at(-1).points.push(steps[first].x, steps[first].y);
  return found;
}

function draw(path, points, closed, coarse) {
  const kept = coarse ? simplified(points, 0.8, closed) : points;
  path.moveTo(kept[0], kept[1]);
  for (let i = 2; i < kept.length; i += 2) path.lineTo(kept[i], kept[i + 1]);
  if (closed) path.closePath();
}
