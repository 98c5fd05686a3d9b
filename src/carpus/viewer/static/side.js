// The column on the right: the list of bones, what `carpus pseudo` found, and what was decided.

import { bones } from "./bones.js";
import { decisions } from "./decisions.js";
import { h, renew, score } from "./page.js";
import { box } from "./selection.js";

/** Draw it anew, of the image that the pointer was over last. */
export function side(bench) {
  const { data, pane, compared, judging, attended, parts: { side: column } } = bench;
  const scroll = column.querySelector(".list")?.scrollTop || 0, deciding = data.deciding?.[pane?.folder];
  const list = h("div", { class: "list" }, pane ? listed(bench, Boolean(deciding)) : []);
  renew(column,
    compared ? mean(data, Object.values(attended.scores).map(({ dice }) => dice)) : "",
    list,
    data.selection && pane ? found(bench) : "",
    deciding ? decisions({ ...deciding, folder: pane.folder, undo: judging.undoable }, {
      bone: bench.chosen, bones: judging.standing, fault: judging.fault, awaited: judging.awaited,
    }, { decide: (verdict) => judging.judge(verdict), undo: () => judging.undo() }) : "");
  list.scrollTop = scroll;
}

function listed(bench, deciding) {
  const { data, view, pane, compared, attended, judging } = bench;
  return bones({
    classes: data.classes, groups: data.groups, mask: view.mask, chosen: view.chosen, also: view.also,
    scores: attended?.scores || {}, areas: attended?.of === pane.place ? (attended.first || attended.second)?.areas : null, marks: pane.marks, deciding, compared,
    tolerance: data.tolerance, found: pane.found,
  }, {
    mask: (mask) => bench.look({ mask }), chosen: (chosen) => bench.choose(chosen),
    decide: (bone, verdict) => judging.decide(bone, verdict),
  });
}

function mean({ first, second }, dice) {
  const of = dice.length ? dice.reduce((sum, value) => sum + value, 0) / dice.length : null;
  return h("div", { class: "mean" }, h("b", {}, score(of, 4)),
    h("span", {}, "mean Dice, ", h("em", {}, second), " against ", h("em", {}, first)));
}

function found(bench) {
  const { data, view, pane, chosen, originOpen } = bench;
  return box({ selection: data.selection, found: pane.found, chosen, verdict: pane.marks[chosen], doubt: view.doubt, open: originOpen },
    { doubt: (doubt) => bench.look({ doubt }), open: (open) => (bench.originOpen = open) });
}
