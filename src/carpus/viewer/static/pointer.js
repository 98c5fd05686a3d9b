// Wheel and pointer on a picture: zoom, pan, window, the line of the swipe, and what is chosen.

import { around, bitsOf } from "./picture.js";

export function listen(picture) {
  const { canvas } = picture;
  const at = (event) => [event.offsetX, event.offsetY];
  let held = null, idle = null;
  const busy = () => {
    picture.moving = true;
    clearTimeout(idle);
    idle = setTimeout(() => {
      picture.moving = false;
      picture.draw();
    }, 140);
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    busy();
    picture.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), at(event));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const onDivider = picture.look?.compare === "swipe" && picture.first && picture.second &&
      Math.abs(event.offsetX - picture.divider * canvas.clientWidth) < 12;
    held = { at: at(event), how: onDivider ? "swipe" : event.button === 2 || event.shiftKey ? "window" : "pan", far: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (!held) {
      picture.told.hover(picture, ...picture.under([x, y]), [x, y]);
      return;
    }
    const [dx, dy] = [x - held.at[0], y - held.at[1]];
    if (!held.far && Math.abs(dx) + Math.abs(dy) < 4) return;
    held.far = true;
    held.at = [x, y];
    busy();
    if (held.how === "swipe") {
      picture.divider = Math.min(1, Math.max(0, x / canvas.clientWidth));
      picture.draw();
    } else if (held.how === "window") picture.told.window(dx, dy);
    else {
      picture.fitted = false;
      picture.move(picture.place.x - dx / picture.place.scale, picture.place.y - dy / picture.place.scale, picture.place.scale);
    }
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.far && held.how === "pan" && event.button === 0) {
      const [first, second] = picture.bits(...picture.under(at(event)));
      picture.told.chosen(picture, first | second);
    }
    held = null;
  });
  canvas.addEventListener("pointercancel", () => (held = null));
  canvas.addEventListener("pointerleave", () => picture.told.hover(picture, -1, -1, null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", (event) => {
    const [first, second] = picture.bits(...picture.under(at(event)));
    const bones = bitsOf(first | second);
    if (!bones.length) return picture.fit();
    picture.fitted = false;
    picture.zoomTo(around(bones.flatMap((k) => [picture.first?.boxes[k], picture.second?.boxes[k]])));
  });
}
