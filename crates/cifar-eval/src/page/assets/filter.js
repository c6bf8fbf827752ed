// Which images are shown, and in which order. Gallery, data map and image view all use `matching`.

const EVERYTHING = { text: "", category: "", label: "", predicted: "", split: "", decision: "", pictures: false, ranges: [], sort: "rank", reverse: false };
let filter = { ...EVERYTHING };
/** The rows that pass the filter, in order. */
let matching = [];
const filterListeners = [];

/** Changes parts of the filter. */
function setFilter(parts) {
  filter = { ...filter, ...parts };
  matching = select();
  for (const listener of filterListeners) listener();
}

function select() {
  const tests = [];
  const text = filter.text.trim().toLowerCase();
  if (text !== "") {
    const number = /^#?\d+$/.test(text) ? text.replace("#", "") : null;
    tests.push((row) => (number !== null && String(ROWS.id[row]).startsWith(number)) || ROWS.file[row].toLowerCase().includes(text));
  }
  if (filter.category !== "") tests.push((row) => ROWS.category[row] === Number(filter.category));
  if (filter.label !== "") tests.push((row) => ROWS.label[row] === Number(filter.label));
  if (filter.predicted === "misclassified") tests.push(isMisclassified);
  else if (filter.predicted !== "") tests.push((row) => ROWS.predicted[row] === Number(filter.predicted));
  if (filter.split !== "") tests.push((row) => ROWS.split[row] === Number(filter.split));
  if (filter.decision === "none") tests.push((row) => !decisions.has(ROWS.id[row]));
  else if (filter.decision === "any") tests.push((row) => decisions.has(ROWS.id[row]));
  else if (filter.decision !== "") tests.push((row) => decisions.get(ROWS.id[row])?.decision === filter.decision);
  if (filter.pictures) tests.push((row) => PICTURE[row] >= 0);
  for (const { key, low, high } of filter.ranges) {
    if (low === null && high === null) continue;
    const { values } = MEASURES.get(key);
    tests.push((row) => values[row] !== null && (low === null || values[row] >= low) && (high === null || values[row] <= high));
  }
  const rows = [];
  for (let row = 0; row < COUNT; row++) if (tests.every((test) => test(row))) rows.push(row);
  sort(rows);
  return rows;
}

/** Sorts hardest first by the chosen measure. Images without a value come last. Ties keep rank. */
function sort(rows) {
  const way = filter.reverse ? -1 : 1;
  if (filter.sort === "id") rows.sort((a, b) => way * (ROWS.id[a] - ROWS.id[b]));
  else if (filter.sort === "rank") { if (filter.reverse) rows.reverse(); }
  else {
    const { values, harder } = MEASURES.get(filter.sort);
    const sign = way * (harder === "lower" ? 1 : -1);
    rows.sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || a - b;
      return sign * (values[a] - values[b]) || a - b;
    });
  }
}

/** Fills the filter controls and listens to them. */
function setUpFilters() {
  const fill = (id, first, entries) => byId(id).replaceChildren(option("", first), ...entries.map(([value, text]) => option(value, text)));
  const classes = CLASSES.map((name, at) => [at, name]);
  const categories = [...DATA.categories.entries()].sort(([, a], [, b]) => (a === "") - (b === "") || (a < b ? -1 : 1));
  fill("by-category", "all", categories.map(([at, name]) => [at, name || "not flagged"]));
  fill("by-label", "all", classes);
  fill("by-predicted", "all", [["misclassified", "misclassified"], ...classes]);
  fill("by-split", "all", DATA.splits.map((name, at) => [at, name]));
  fill("by-decision", "all", [["none", "not reviewed"], ["any", "reviewed"], ...DECISIONS.map((name) => [name, name])]);
  const measures = [...MEASURES.values()].filter((column) => column.values.some((value) => value !== null));
  byId("sort").replaceChildren(option("rank", "rank"), option("id", "id"), ...measures.map((column) => option(column.key, column.title)));

  const listen = (id, key, read = (control) => control.value, event = "change") =>
    byId(id).addEventListener(event, ({ target }) => setFilter({ [key]: read(target) }));
  listen("search", "text", undefined, "input");
  for (const key of ["category", "label", "predicted", "split", "decision"]) listen(`by-${key}`, key);
  listen("sort", "sort");
  listen("reverse", "reverse", (control) => control.checked);
  listen("only-pictures", "pictures", (control) => control.checked);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => setFilter({ ...EVERYTHING, sort: filter.sort, reverse: filter.reverse }));
  byId("add-range").addEventListener("click", () => setFilter({ ranges: [...filter.ranges, { key: measures[0].key, low: null, high: null }] }));
  byId("add-range").disabled = measures.length === 0;
  filterListeners.push(showFilter, () => showRanges(measures));
  reviewListeners.push(() => { if (filter.decision !== "") setFilter({}); });
}

/** Updates the controls from the filter, which a cell of the confusion matrix may have changed. */
function showFilter() {
  if (byId("search").value !== filter.text) byId("search").value = filter.text;
  for (const key of ["category", "label", "predicted", "split", "decision"]) byId(`by-${key}`).value = filter[key];
  byId("sort").value = filter.sort;
  byId("reverse").checked = filter.reverse;
  byId("only-pictures").checked = filter.pictures;
}

function showRanges(measures) {
  const box = byId("ranges");
  const update = (at, parts) => setFilter({ ranges: filter.ranges.map((range, k) => (k === at ? { ...range, ...parts } : range)) });
  const read = (control) => (control.value === "" || Number.isNaN(control.valueAsNumber) ? null : control.valueAsNumber);
  // Do not replace the fields while the user types in them.
  if (box.children.length === filter.ranges.length && box.contains(document.activeElement)) return;
  box.replaceChildren(...filter.ranges.map(({ key, low, high }, at) => make("div", { className: "range" },
    make("select", { "aria-label": "measure", onchange: ({ target }) => update(at, { key: target.value }) },
      ...measures.map((column) => make("option", { value: column.key, textContent: column.title, selected: column.key === key }))),
    make("input", { type: "number", step: "any", placeholder: "min", "aria-label": "min", value: low ?? "", oninput: ({ target }) => update(at, { low: read(target) }) }),
    make("input", { type: "number", step: "any", placeholder: "max", "aria-label": "max", value: high ?? "", oninput: ({ target }) => update(at, { high: read(target) }) }),
    make("button", { type: "button", textContent: "×", "aria-label": "remove this range", onclick: () => { document.activeElement.blur(); setFilter({ ranges: filter.ranges.filter((_, k) => k !== at) }); } }))));
}
