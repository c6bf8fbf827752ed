// The data of the page, as payload.rs writes them: rows stand hardest first, one array a column.

const DATA = JSON.parse(document.getElementById("data").textContent);
if (DATA.schema !== 2) throw new Error(`data of schema ${DATA.schema}; this page reads 2`);

const ROWS = DATA.rows;
const COUNT = ROWS.id.length;
const CLASSES = DATA.classes;

/** Measures by their column's name, each with its values. */
const MEASURES = new Map(DATA.measures.map((measure, at) => [measure.key, { ...measure, values: ROWS.measures[at] }]));

/** Where the image with an id stands. */
const PLACE = new Map(ROWS.id.map((id, row) => [id, row]));

/** Where the picture of a row stands on the sheets; −1 if it is not in this file. */
const PICTURE = new Int32Array(COUNT).fill(-1);
DATA.pictures.rows.forEach((row, at) => { PICTURE[row] = at; });

const measure = (key, row) => MEASURES.get(key).values[row];
const labelOf = (row) => CLASSES[ROWS.label[row]];
const predictedOf = (row) => CLASSES[ROWS.predicted[row]];
const splitOf = (row) => DATA.splits[ROWS.split[row]];
const categoryOf = (row) => DATA.categories[ROWS.category[row]];
const reasonOf = (row) => DATA.reasons[ROWS.reason[row]];
const isMissed = (row) => ROWS.label[row] !== ROWS.predicted[row];
