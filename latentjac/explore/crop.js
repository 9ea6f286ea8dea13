// The frame over the photo: dragged, resized at its corners, moved by keys. element and trigger are given by the page.
const box = () => element.querySelector(".lje-box");
const data = () => element.querySelector(".lje-crop").dataset;
const read = () => data().box.split(",").map(Number);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function draw() {
  if (!box()) return;
  const { width, height } = data(), [left, top, right, bottom] = read(), style = box().style;
  style.left = `${(100 * left) / width}%`;
  style.top = `${(100 * top) / height}%`;
  style.width = `${(100 * (right - left)) / width}%`;
  style.height = `${(100 * (bottom - top)) / height}%`;
}

// A frame of the model's shape that is inside the photo: its middle where it was asked for, as far as that goes.
function place(across, x, y) {
  const { width, height, ratio } = data();
  const wide = clamp(Math.round(across), Math.min(8, width), Math.floor(Math.min(width, height * ratio)));
  const tall = clamp(Math.round(wide / ratio), 1, height);
  const left = Math.round(clamp(x - wide / 2, 0, width - wide)), top = Math.round(clamp(y - tall / 2, 0, height - tall));
  data().box = [left, top, left + wide, top + tall].join(",");
  draw();
}

let drag = null;
element.addEventListener("pointerdown", (event) => {
  const target = event.target.closest(".lje-box");
  if (!target) return;
  event.preventDefault();
  target.focus();
  target.setPointerCapture(event.pointerId);
  drag = { x: event.clientX, y: event.clientY, corner: event.target.dataset.corner, from: read() };
});
element.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const scale = Number(data().width) / element.querySelector(".lje-stage").clientWidth;
  const [left, top, right, bottom] = drag.from, dx = (event.clientX - drag.x) * scale, dy = (event.clientY - drag.y) * scale;
  if (!drag.corner) return place(right - left, (left + right) / 2 + dx, (top + bottom) / 2 + dy);
  const west = drag.corner[1] === "w", north = drag.corner[0] === "n";
  const more = Math.max(west ? -dx : dx, (north ? -dy : dy) * data().ratio), across = Math.max(right - left + more, 8);
  const tall = across / data().ratio;
  place(across, west ? right - across / 2 : left + across / 2, north ? bottom - tall / 2 : top + tall / 2);
});
const done = () => trigger("crop", { box: read() });
["pointerup", "pointercancel"].forEach((kind) => element.addEventListener(kind, () => {
  if (drag) done();
  drag = null;
}));
element.addEventListener("keydown", (event) => {
  if (!event.target.closest(".lje-box")) return;
  const [left, top, right, bottom] = read(), step = Math.max(1, Math.round(data().width / 50));
  const moves = { ArrowLeft: [-step, 0, 0], ArrowRight: [step, 0, 0], ArrowUp: [0, -step, 0], ArrowDown: [0, step, 0], "+": [0, 0, step], "=": [0, 0, step], "-": [0, 0, -step] };
  const move = moves[event.key];
  if (!move) return;
  event.preventDefault();
  place(right - left + 2 * move[2], (left + right) / 2 + move[0], (top + bottom) / 2 + move[1]);
  done();
});
watch("value", draw);
draw();
