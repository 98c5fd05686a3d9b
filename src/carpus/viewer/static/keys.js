// The keys of the workbench, and who has the focus.

import { KEYS as VERDICT_KEYS } from "./decisions.js";

const STYLES = ["outline", "fill", "none"], COMPARED = ["difference", "first", "second", "swipe", "blink"];
const SETTLED_MS = 80; // after which a control has done what it does with a click
const NOT_TYPED = /^(range|checkbox|radio|button|submit|reset|color|file)$/;

/** Listen until `signal`: keys act on the workbench wherever the focus is, but where somebody types. */
export function listen(bench, root, signal) {
  const listening = { capture: true, signal };
  let chosen = false; // whether the pointer's last click took a choice from a list, which has the focus back from it
  window.addEventListener("keydown", (event) => {
    if (event.key === "Tab") chosen = false;
    pressed(bench, event, chosen);
  }, listening);
  window.addEventListener("keyup", (event) => {
    if (event.key === " ") bench.look({}, (bench.bare = false));
  }, listening);
  // A mouse leaves the focus nowhere, so that Space and the arrows are the picture's after a click too.
  root.addEventListener("click", ({ detail }) => {
    const focused = root.getRootNode().activeElement;
    if (detail && focused?.matches("button, summary, input")) focused.blur();
  }, listening);
  window.addEventListener("pointerup", ({ target }) => {
    const focused = document.activeElement;
    chosen = Boolean(target.closest?.('[role="option"]'));
    setTimeout(() => focused === document.activeElement && release(), SETTLED_MS);
  }, listening);
}

/** Take the focus from a control of Streamlit's that is not typed in. */
function release() {
  const focused = document.activeElement;
  if (!typing(focused) && focused?.matches("input, button, [role='slider']")) focused.blur();
}

/** Whether an element takes letters. */
function typing(element) {
  return element?.isContentEditable || /^(textarea|select)$/i.test(element?.tagName) ||
    (element?.tagName === "INPUT" && !NOT_TYPED.test(element.type));
}

function pressed(bench, event, chosen) {
  const from = event.composedPath()[0];
  if (chosen && from?.matches?.("[role='combobox']:not([aria-expanded='true'])")) from.blur();
  else if (typing(from)) {
    // Whoever has made a choice, or written what is looked for, goes on to look.
    if (event.key === "Enter") setTimeout(() => from.blur());
    return;
  }
  // Space uses the control that has the focus, and arrows move it.
  if (event.key === " " && from?.closest?.("button, summary, a, input")) return;
  if (event.key.startsWith("Arrow") && from?.closest?.("[type='range'], [role='slider'], [role='radiogroup'], [role='tablist']")) return;
  // A table has its own keys, and Escape closes what Streamlit has opened.
  if (event.key === "Escape" && document.querySelector('[data-testid="stPopoverBody"]')) return;
  if (from?.closest?.('[data-testid="stDataFrame"]')) return;
  if (event.ctrlKey || event.metaKey || event.altKey || !bench.data) return;
  const actions = actionsOf(bench), action = actions[event.key] || actions[event.key.toLowerCase()];
  // Streamlit has keys of its own, R and C among them.
  if (!action) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  action();
}

function actionsOf(bench) {
  const { view, data } = bench;
  const next = (options, now) => options[(options.indexOf(now) + 1) % options.length];
  return {
    ArrowRight: () => bench.step(1), ArrowLeft: () => bench.step(-1),
    n: () => data.deciding && bench.stepWaiting(1), p: () => data.deciding && bench.stepWaiting(-1),
    ArrowDown: () => bench.stepBone(1), ArrowUp: () => bench.stepBone(-1),
    o: () => bench.look({ style: next(STYLES, view.style) }),
    c: () => data.second && bench.look({ compare: next(COMPARED, view.compare) }),
    i: () => bench.look({ invert: !view.invert }), d: () => data.selection && bench.look({ doubt: !view.doubt }),
    f: () => bench.fit(), z: () => view.chosen >= 0 && bench.zoomTo(view.chosen),
    u: () => bench.judging.undo(), " ": () => bench.look({}, (bench.bare = true)), "?": () => bench.help(),
    Escape: () => {
      bench.parts.help.hidden = true;
      bench.look({ chosen: -1, mask: data.classes.reduce((bits, _, k) => bits | (1 << k), 0) });
    },
    ...Object.fromEntries(Object.entries(VERDICT_KEYS).map(([verdict, key]) => [key, () => bench.judging.judge(verdict)])),
  };
}
