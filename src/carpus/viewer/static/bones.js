// The list of bones: which are drawn, how well they agree, what was decided about them.

import { SIGNS } from "./decisions.js";
import { badness, h, score } from "./page.js";
import { mark as leftOut, why as because } from "./selection.js";

/**
 * @param shown {classes, groups, mask, chosen, also: bits of bones picked out with it, scores, areas, marks, deciding, compared, tolerance, found}
 * @param told {mask(mask), chosen(k), decide(name, verdict)}
 */
export function bones(shown, told) {
  const { classes, groups, mask, chosen, also, scores, areas, marks, deciding, compared, tolerance, found } = shown;
  const all = classes.reduce((bits, _, k) => bits | (1 << k), 0);
  const head = h("div", { class: "bone head" },
    tick(mask === all, () => told.mask(mask === all ? 0 : all), "all bones"),
    h("span", { class: "name" }, "Bones"),
    compared && h("span", { class: "number" }, "Dice"),
    compared && h("span", { class: "number", title: `surface Dice: the share of both borders within ${tolerance} px of the other` }, "NSD"),
    !compared && h("span", { class: "number wide" }, "px"),
    deciding && h("span", { class: "verdicts" }, ""));
  const rows = Object.entries(groups).map(([group, names]) => {
    const members = names.map((name) => classes.findIndex((each) => each.name === name));
    const bits = members.reduce((sum, k) => sum | (1 << k), 0);
    const on = (mask & bits) === bits;
    return [
      h("div", { class: "bone group" },
        tick(on, () => told.mask(on ? mask & ~bits : mask | bits), group),
        h("button", { class: "name", title: `only the ${group}`, onclick: () => told.mask(bits) }, group),
        compared && h("span", { class: "number" }, score(mean(members.map((k) => scores[classes[k].name]?.dice)))),
        compared && h("span", { class: "number" }, score(mean(members.map((k) => scores[classes[k].name]?.nsd)))),
        deciding && h("span", { class: "verdicts" }, "")),
      members.map((k) => row(k)),
    ];
  });

  function row(k) {
    const { name, colour } = classes[k], of = scores[name] || {}, mark = marks[name], judged = found?.bones[name];
    const absent = areas && !areas[k] && !compared;
    return h("div", {
      class: `bone${chosen === k || (also >>> k) & 1 ? " chosen" : ""}${absent ? " absent" : ""}${judged && !judged.kept && mark !== "accept" ? " left-out" : ""}`,
      "data-bone": name, title: because(judged, mark),
      onclick: () => told.chosen(chosen === k ? -1 : k),
    },
      tick((mask >>> k) & 1, (event) => {
        event.stopPropagation();
        told.mask(mask ^ (1 << k));
      }, name, colour),
      h("span", { class: "name" }, h("span", {}, name), " ", !compared && leftOut(judged, mark)),
      compared && h("span", { class: "number", style: badness(of.dice) }, score(of.dice)),
      compared && h("span", { class: "number" }, score(of.nsd)),
      !compared && h("span", { class: "number wide" }, absent ? "absent" : areas ? areas[k].toLocaleString("en") : ""),
      deciding && h("span", { class: "verdicts" }, Object.entries(SIGNS).map(([verdict, sign]) =>
        h("button", {
          class: `verdict ${verdict}`, "aria-pressed": String(mark === verdict), title: `${verdict} ${name}`,
          onclick: (event) => {
            event.stopPropagation();
            told.decide(name, mark === verdict ? null : verdict);
          },
        }, sign))));
  }
  return [head, ...rows.flat(2)];
}

function tick(on, changed, name, colour) {
  return h("button", {
    class: "tick", role: "checkbox", "aria-checked": String(Boolean(on)), "aria-label": `show ${name}`, onclick: changed,
    style: colour ? `--colour: ${colour}` : undefined,
  });
}

function mean(values) {
  const there = values.filter((value) => typeof value === "number");
  return there.length ? there.reduce((sum, value) => sum + value, 0) / there.length : null;
}
