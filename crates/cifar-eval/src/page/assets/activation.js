// The class-activation map over the picture of an image: orange places add to the logit of the
// predicted class, blue ones subtract from it. As in `predict --explain`.

const ACTIVATIONS = DATA.activations && { ...DATA.activations, values: Int8Array.from(atob(DATA.activations.values), (byte) => byte.charCodeAt(0)) };
/** How much of the picture the strongest colour hides. */
const MOST_HIDDEN = 0.75;
const FOR_CLASS = [230, 159, 0];
const AGAINST_CLASS = [0, 114, 178];

/** Whether large pictures have their map over them. */
let explaining = false;

/** Returns the picture of `row`, with a switch for its activation map if this file has one. */
function largePicture(row, size) {
  if (!ACTIVATIONS || PICTURE[row] < 0) return picture(row, size);
  const control = button("explain", "", "show the activation map (key m)", toggleActivationMap);
  control.append("Activation map ", make("kbd", { textContent: "m" }));
  control.setAttribute("aria-pressed", String(explaining));
  const words = `Orange places speak for ${predictedOf(row)}, blue ones against it.`;
  return make("div", { className: "large" }, explaining ? explained(row, size) : picture(row, size), control,
    explaining ? make("p", { className: "faint", textContent: words }) : null);
}

function toggleActivationMap() {
  if (!ACTIVATIONS) return say("This file has no activation maps.");
  explaining = !explaining;
  if (opened >= 0) showDetail();
  else if (!byId("view-review").hidden) showQueue();
}

/** Returns a canvas with the picture of `row` in grey under its map. */
function explained(row, size) {
  const [width, height] = [size, Math.round((size * HEIGHT) / WIDTH)];
  const canvas = make("canvas", { className: "picture", width, height, style: `width:${width}px;height:${height}px`, role: "img", "aria-label": `activation map for ${predictedOf(row)}` });
  tint(row, canvas.getContext("2d"), width, height);
  return canvas;
}

async function tint(row, context, width, height) {
  const rgba = await pixels(row);
  const image = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (Math.floor((y * HEIGHT) / height) * WIDTH + Math.floor((x * WIDTH) / width)) * 4;
      const grey = (rgba[from] + rgba[from + 1] + rgba[from + 2]) / 3;
      const value = activation(row, y / height, x / width);
      const colour = value > 0 ? FOR_CLASS : AGAINST_CLASS;
      const hidden = MOST_HIDDEN * Math.abs(value);
      const to = (y * width + x) * 4;
      for (let channel = 0; channel < 3; channel++) image.data[to + channel] = grey * (1 - hidden) + colour[channel] * hidden;
      image.data[to + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

/**
 * The value of a row's map at a place, −1 to 1; the place is 0 to 1 in both directions. Values are
 * interpolated linearly between the centres of the cells.
 */
function activation(row, down, right) {
  const { rows, columns, values } = ACTIVATIONS;
  const start = PICTURE[row] * rows * columns;
  const cells = (at, count) => {
    const place = Math.min(Math.max(at * count - 0.5, 0), count - 1);
    const cell = Math.floor(place);
    return [cell, Math.min(cell + 1, count - 1), place - cell];
  };
  const [top, bottom, lower] = cells(down, rows);
  const [left, other, further] = cells(right, columns);
  const line = (at) => values[start + at * columns + left] * (1 - further) + values[start + at * columns + other] * further;
  return (line(top) * (1 - lower) + line(bottom) * lower) / 127;
}
