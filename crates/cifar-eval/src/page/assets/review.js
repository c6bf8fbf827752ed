// Decisions: kept in the browser's store, undone, saved as review.csv and loaded again.

const DECISIONS = ["accept", "relabel", "drop", "dismiss"];
const COLUMNS = ["id", "decision", "label", "note"];
const STORE = `cifar-review:${DATA.fingerprint}`;

/** Decisions by id: `{ decision, label, note }`. Some may be about images that are not on this page; they are kept. */
const decisions = new Map(DATA.review.map(([id, decision, label, note]) => [id, { decision, label, note }]));
const before = new Map(decisions);
const done = [];
const reviewListeners = [];

(function restore() {
  try {
    for (const [id, entry] of JSON.parse(store.get(STORE) ?? "[]")) {
      if (entry === null) decisions.delete(id);
      else if (DECISIONS.includes(entry.decision)) decisions.set(id, entry);
    }
  } catch {
    say("The decisions that this browser kept cannot be read; those of the file are shown.", true);
  }
})();

/** Sets or (with null) removes the decisions of some ids, as one step that can be undone. */
function change(entries) {
  done.push(entries.map(([id]) => [id, decisions.get(id) ?? null]));
  apply(entries);
}

function apply(entries) {
  for (const [id, entry] of entries) {
    if (entry === null) decisions.delete(id);
    else decisions.set(id, entry);
  }
  // Only what differs from the file is kept: once the file has it, the browser need not.
  const ids = new Set([...before.keys(), ...decisions.keys()]);
  const same = (a, b) => a && b && a.decision === b.decision && a.label === b.label && a.note === b.note;
  const differing = [...ids].filter((id) => !same(before.get(id), decisions.get(id)));
  if (!store.set(STORE, JSON.stringify(differing.map((id) => [id, decisions.get(id) ?? null])))) {
    say("This browser keeps no data for this page: save review.csv before you close it.", true);
  }
  for (const listener of reviewListeners) listener();
}

function undo() {
  const last = done.pop();
  if (!last) return say("There is nothing to undo.");
  apply(last);
  say(last.length === 1 ? `Undone: image ${last[0][0]}.` : `Undone: ${grouped(last.length)} images.`);
}

/** Decides about the image of a row. The note of before stays. */
function decide(row, decision, label = "") {
  const id = ROWS.id[row];
  if (decision === "accept") {
    if (ROWS.suggested[row] === null) return say(`There is no suggested label for image ${id}.`, true);
    label = CLASSES[ROWS.suggested[row]];
  }
  change([[id, { decision, label, note: decisions.get(id)?.note ?? "" }]]);
  say(`Image ${id}: ${inWords(decisions.get(id))}.`);
}

/** Writes a note on an image that has been decided about. */
function note(row, text) {
  const id = ROWS.id[row];
  const entry = decisions.get(id);
  if (!entry) return say("Decide first, then write a note.", true);
  if (entry.note !== text) change([[id, { ...entry, note: text }]]);
}

function inWords({ decision, label }) {
  switch (decision) {
    case "accept": return `accepted as ${label}`;
    case "relabel": return `relabelled to ${label}`;
    case "drop": return "dropped";
    default: return "dismissed, its label is right";
  }
}

/** review.csv, ids ascending. */
function reviewCsv() {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [...decisions].sort(([a], [b]) => a - b)
    .map(([id, { decision, label, note }]) => [id, decision, quoted(label), quoted(note)].join(","));
  return [COLUMNS.join(","), ...lines].join("\n") + "\n";
}

function saveReview() {
  const address = URL.createObjectURL(new Blob([reviewCsv()], { type: "text/csv" }));
  make("a", { href: address, download: "review.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  say(`Saved ${grouped(decisions.size)} decisions. The file goes to labels/review.csv.`);
}

/** The records of a CSV text: arrays of fields, each with the line where it begins. */
function parseCsv(text) {
  const records = [];
  let fields = [], field = "", quoted = false, line = 1, start = 1;
  const endField = () => { fields.push(field); field = ""; };
  const endRecord = () => {
    endField();
    if (fields.length > 1 || fields[0] !== "") records.push({ line: start, fields });
    fields = [];
  };
  text = text.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "\n") line++;
    if (quoted) {
      if (character !== '"') field += character;
      else if (text[at + 1] === '"') { field += '"'; at++; }
      else quoted = false;
    } else if (character === '"' && field === "") quoted = true;
    else if (character === ",") endField();
    else if (character === "\n") { endRecord(); start = line; }
    else field += character;
  }
  if (quoted) throw new Error(`line ${start}: a quotation mark is not closed`);
  if (field !== "" || fields.length > 0) endRecord();
  return records;
}

/** The decisions of a review.csv; an error names the line, what was found and what is allowed. */
function readReview(text) {
  const [head, ...records] = parseCsv(text);
  if (!head || head.fields.join(",") !== COLUMNS.join(",")) {
    throw new Error(`line 1: found ${JSON.stringify(head?.fields.join(",") ?? "")}, expected ${COLUMNS.join(",")}`);
  }
  const seen = new Set();
  return records.map(({ line, fields }) => {
    if (fields.length !== COLUMNS.length) throw new Error(`line ${line}: ${fields.length} fields, expected ${COLUMNS.length}`);
    const [id, decision, label, note] = fields;
    if (!/^\d{1,10}$/.test(id)) throw new Error(`line ${line}: ${JSON.stringify(id)} is not an id`);
    if (seen.has(Number(id))) throw new Error(`line ${line}: image ${id} appears twice`);
    seen.add(Number(id));
    if (!DECISIONS.includes(decision)) {
      throw new Error(`line ${line}: ${JSON.stringify(decision)} is no decision; allowed are ${DECISIONS.join(", ")}`);
    }
    const labelled = decision === "accept" || decision === "relabel";
    if (labelled && !CLASSES.includes(label)) {
      throw new Error(`line ${line}: ${JSON.stringify(label)} is no class; allowed are ${CLASSES.join(", ")}`);
    }
    if (!labelled && label !== "") throw new Error(`line ${line}: ${decision} takes no label, found ${JSON.stringify(label)}`);
    return [Number(id), { decision, label, note }];
  });
}

async function loadReview(file) {
  try {
    const entries = readReview(await file.text());
    if (entries.length > 0) change(entries);
    say(`Loaded ${grouped(entries.length)} decisions from ${file.name}.`);
  } catch (error) {
    say(`${file.name}, ${error.message}. Nothing was loaded.`, true);
  }
}
