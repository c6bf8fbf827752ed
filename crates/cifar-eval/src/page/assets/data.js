// The data of the page, in the layout of payload.rs: one array per column, hardest row first.

const DATA = JSON.parse(document.getElementById("data").textContent);
if (DATA.schema !== 3) throw new Error(`the data have schema ${DATA.schema}; this page reads schema 3`);

const ROWS = DATA.rows;
const COUNT = ROWS.id.length;
const CLASSES = DATA.classes;

/** Measures by column name, each with its values. */
const MEASURES = new Map(DATA.measures.map((measure, at) => [measure.key, { ...measure, values: ROWS.measures[at] }]));

/** The row of each image id. */
const ROW_OF_ID = new Map(ROWS.id.map((id, row) => [id, row]));

/** The index of each row's picture on the sheets; −1 if this file does not contain it. */
const PICTURE = new Int32Array(COUNT).fill(-1);
DATA.pictures.rows.forEach((row, at) => { PICTURE[row] = at; });

const measure = (key, row) => MEASURES.get(key).values[row];
const labelOf = (row) => CLASSES[ROWS.label[row]];
const predictedOf = (row) => CLASSES[ROWS.predicted[row]];
const splitOf = (row) => DATA.splits[ROWS.split[row]];
const categoryOf = (row) => DATA.categories[ROWS.category[row]];
const reasonOf = (row) => DATA.reasons[ROWS.reason[row]];
const isMisclassified = (row) => ROWS.label[row] !== ROWS.predicted[row];
