// From one image to another, and from one bone to another.

const PLACE = 0, NAME = 1, PANE = 5, WAITS = 6; // in a row, see workbench.py; rows of the same pane are shown together

/** Where in the rows one is: at the image that was asked for last, though it may not be shown yet. */
function here({ data: { rows, case: shown }, unheard }) {
  const asked = unheard.findLast(({ go }) => go !== undefined)?.go;
  return rows.findIndex((row) => (asked === undefined ? row[NAME] === shown : row[PLACE] === asked));
}

/** The place of the next image, or nothing. */
export function next(bench, by) {
  const { rows } = bench.data, at = here(bench);
  let to = at + by;
  while (rows[to] && rows[to][PANE] === rows[at]?.[PANE]) to += by;
  return rows[to]?.[PLACE];
}

/** That of the next on which bones have no verdict; behind the end of the list is its start. */
export function nextWaiting(bench, by) {
  const { rows } = bench.data, at = here(bench), count = rows.length;
  for (let n = 1; n < count; n++) {
    const row = rows[(((at + by * n) % count) + count) % count];
    if (row[WAITS] && row[PANE] !== rows[at]?.[PANE]) return row[PLACE];
  }
}

/** The bone after the chosen one in the list, or before it. */
export function nextBone({ data: { classes, groups }, view }, by) {
  const order = Object.values(groups).flat(), at = order.indexOf(classes[view.chosen]?.name);
  const to = order[Math.max(0, Math.min(order.length - 1, at + by))];
  return classes.findIndex(({ name }) => name === to);
}
