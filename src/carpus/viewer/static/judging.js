// Verdicts on the image that the pointer was over last: what they are about, and whether there can be any.

import { standing } from "./decisions.js";

export class Judging {
  constructor(bench) {
    this.bench = bench;
  }

  /** Whether the labels of the image that verdicts are about are on their way. */
  get awaited() {
    const { pane, attended } = this.bench;
    return Boolean(attended?.awaited.includes(pane?.folder));
  }

  /** Which bones of the image have a verdict, or could have one. */
  get standing() {
    const { pane, data, attended } = this.bench;
    const labels = pane?.folder === data.first ? attended?.first : attended?.second;
    return standing(data.classes, labels?.areas, pane?.marks || {});
  }

  /** Why nothing can be decided though the image has come. */
  get fault() {
    const { pane, attended } = this.bench, faults = attended?.faults || {};
    return faults[""] ? "the image cannot be read" : faults[pane?.folder] ? "the labels cannot be read" : "";
  }

  /** Whether the image that was asked for last is on the screen, and its labels that verdicts are about. */
  get settled() {
    const { pane, attended, unheard } = this.bench;
    return !unheard.some(({ go }) => go !== undefined) && attended.of === pane.place && !this.awaited;
  }

  /** Decide on the chosen bone, or without one on every bone of the image that has a mask and no verdict yet. */
  judge(verdict) {
    const { bench } = this, bone = bench.chosen;
    if (!bench.pane?.folder) return;
    const left = bone || this.standing.open.length || this.fault || !this.settled;
    if (left) this.decide(bone, verdict);
    else bench.say("Nothing decided: every bone that has a mask has a verdict.");
  }

  /** Decide on a bone, or with "" on all that are open, of the image that is on the screen. */
  decide(bone, verdict) {
    const { bench, fault } = this, { pane } = bench;
    if (!pane?.folder) return;
    if (fault || !this.settled) bench.say(`Nothing decided: ${fault || "the image is still on its way"}.`);
    else bench.tell({ decide: { case: pane.name, bone, verdict, folder: pane.folder } });
  }

  /** The folder whose last decision can be taken back, that of the image first. */
  get undoable() {
    const { data: { deciding }, pane } = this.bench;
    return [pane?.folder, ...Object.keys(deciding || {})].find((folder) => deciding?.[folder]?.undo);
  }

  undo() {
    if (this.undoable) this.bench.tell({ undo: this.undoable });
  }
}
