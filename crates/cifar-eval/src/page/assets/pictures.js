// Pictures are cut from sheets. A sheet is decoded when its first picture is needed.

const HEIGHT = DATA.size.height;
const WIDTH = DATA.size.width;
const sheets = new Map();

/** Returns a promise of the decoded sheet. */
function sheetOf(number) {
  if (!sheets.has(number)) {
    const image = new Image();
    image.src = `data:image/png;base64,${byId(`sheet-${number}`).textContent}`;
    sheets.set(number, image.decode().then(() => image));
  }
  return sheets.get(number);
}

/** Draws the picture of `row` into a canvas context at the origin, once its sheet is decoded. */
async function draw(row, context) {
  const { columns, per_sheet: perSheet } = DATA.pictures;
  const index = PICTURE[row];
  const sheet = await sheetOf(Math.floor(index / perSheet));
  const at = index % perSheet;
  context.drawImage(sheet, (at % columns) * WIDTH, Math.floor(at / columns) * HEIGHT, WIDTH, HEIGHT, 0, 0, WIDTH, HEIGHT);
}

/** Returns a canvas with the picture of `row`, or a placeholder if this file does not have it. */
function picture(row, size) {
  const style = `width:${size}px;height:${Math.round((size * HEIGHT) / WIDTH)}px`;
  if (PICTURE[row] < 0) {
    const text = size > 60 ? "not in this file" : "–";
    return make("span", { className: "picture missing", style, textContent: text });
  }
  const canvas = make("canvas", { className: "picture", width: WIDTH, height: HEIGHT, style, "aria-hidden": "true" });
  draw(row, canvas.getContext("2d"));
  return canvas;
}

/** Returns the pixels of `row` as RGBA bytes. */
async function pixels(row) {
  const canvas = make("canvas", { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  await draw(row, context);
  return context.getImageData(0, 0, WIDTH, HEIGHT).data;
}
