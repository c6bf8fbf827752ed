// Review decisions: stored in the browser, undone, saved as review.csv and loaded from it.

const DECISIONS = ["accept", "relabel", "drop", "dismiss"];
const COLUMNS = ["id", "content", "file", "decision", "label", "note"];
const STORE = `cifar-review:${DATA.fingerprint}`;

/**
 * Decisions by id: `{ decision, label, note, content, file }`. Decisions about images that are not
 * on this page are kept, with their original content and file.
 */
const decisions = new Map(DATA.review.map(({ id, ...entry }) => [id, entry]));
let decisionsInFile = new Map(decisions);
const undoSteps = [];
const reviewListeners = [];

/** Applies the decisions that the browser stored. */
function restore() {
  try {
    for (const [id, entry] of JSON.parse(store.get(STORE) ?? "[]")) {
      if (entry === null) decisions.delete(id);
      else if (DECISIONS.includes(entry.decision)) decisions.set(id, entry);
    }
  } catch {
    say("The decisions stored in this browser cannot be read. The page shows those of the file.", true);
  }
}
restore();

/** Sets the decisions of some ids, or removes them if null, as one undo step. */
function change(entries) {
  undoSteps.push(entries.map(([id]) => [id, decisions.get(id) ?? null]));
  apply(entries);
}

/** Applies decisions without an undo step. `undone`: they are those before an undone step. */
function apply(entries, undone = false) {
  for (const [id, entry] of entries) {
    if (entry === null) decisions.delete(id);
    else decisions.set(id, entry);
  }
  if (!remember() && !served.at) say("This browser cannot store decisions. Save review.csv before you close the page.", true);
  for (const listener of reviewListeners) listener(entries, undone);
}

/**
 * Stores the differences from the file in the browser. Once the file contains a decision, the
 * browser need not store it. Returns false if the browser stores nothing.
 */
function remember() {
  return store.set(STORE, JSON.stringify(differing().map((id) => [id, decisions.get(id) ?? null])));
}

/** The ids whose decisions are not those of the file. */
function differing() {
  const ids = new Set([...decisionsInFile.keys(), ...decisions.keys()]);
  const same = (a, b) => a && b && a.decision === b.decision && a.label === b.label && a.note === b.note;
  return [...ids].filter((id) => !same(decisionsInFile.get(id), decisions.get(id)));
}

function undo() {
  const last = undoSteps.pop();
  if (!last) return say("Nothing to undo.");
  apply(last, true);
  say(last.length === 1 ? `Undone: image ${last[0][0]}.` : `Undone: ${grouped(last.length)} images.`);
}

/** Sets the decision about the image of a row. An existing note stays. */
function decide(row, decision, label = "") {
  const id = ROWS.id[row];
  if (decision === "accept") {
    if (ROWS.suggested[row] === null) return say(`Image ${id} has no suggested label.`, true);
    label = CLASSES[ROWS.suggested[row]];
  }
  change([[id, { decision, label, note: decisions.get(id)?.note ?? "", content: ROWS.content[row], file: ROWS.file[row] }]]);
  say(`Image ${id}: ${inWords(decisions.get(id))}.`);
}

/** Sets the note of an image that has a decision. */
function note(row, text) {
  const id = ROWS.id[row];
  const entry = decisions.get(id);
  if (!entry) return say("Decide first, then add a note.", true);
  if (entry.note !== text) change([[id, { ...entry, note: text }]]);
}

function inWords({ decision, label }) {
  switch (decision) {
    case "accept": return `accepted as ${label}`;
    case "relabel": return `relabelled to ${label}`;
    case "drop": return "dropped";
    default: return "dismissed, the label is correct";
  }
}

/** Whether a spreadsheet would execute a cell. */
const isFormula = (text) => /^[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
/** Returns a cell that no spreadsheet executes: an apostrophe precedes anything like a formula. */
const escaped = (text) => (isFormula(text.replace(/^'+/, "")) ? `'${text}` : text);
/** The inverse of `escaped`. */
const unescaped = (cell) => (cell.startsWith("'") && isFormula(cell.replace(/^'+/, "")) ? cell.slice(1) : cell);

/**
 * Returns the text of review.csv, ids ascending. Each row has the content and file of its image,
 * since another image may get the id later.
 */
function reviewCsv() {
  const cell = (text) => {
    const safe = escaped(text);
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = [...decisions].sort(([a], [b]) => a - b).map(([id, entry]) => {
    const row = ROW_OF_ID.get(id);
    const [content, file] = row === undefined ? [entry.content ?? "", entry.file ?? ""] : [ROWS.content[row], ROWS.file[row]];
    return [String(id), content, file, entry.decision, entry.label, entry.note].map(cell).join(",");
  });
  return [COLUMNS.join(","), ...lines].join("\n") + "\n";
}

function saveReview() {
  const url = URL.createObjectURL(new Blob([reviewCsv()], { type: "text/csv" }));
  make("a", { href: url, download: "review.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say(`Saved ${grouped(decisions.size)} decisions. Move review.csv into the labels folder.`);
}

/** Returns the non-empty records of a CSV text: fields, and the line where the record begins. */
function parseCsv(text) {
  const records = [];
  let fields = [], field = "", quoted = false, closed = false, line = 1, start = 1;
  const endField = () => { fields.push(field.trim()); field = ""; closed = false; };
  const endRecord = () => {
    endField();
    if (fields.some((value) => value !== "")) records.push({ line: start, fields });
    fields = [];
  };
  text = text.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "\n") line++;
    if (quoted) {
      if (character !== '"') field += character;
      else if (text[at + 1] === '"') { field += '"'; at++; }
      else { quoted = false; closed = true; }
    } else if (character === '"' && field.trim() === "" && !closed) { quoted = true; field = ""; }
    else if (character === ",") endField();
    else if (character === "\n") { endRecord(); start = line; }
    else if (closed && character !== " " && character !== "\t") {
      throw new Error(`line ${start}: text after the closing quotation mark of a field`);
    } else field += character;
  }
  if (quoted) throw new Error(`line ${start}: a quotation mark is not closed`);
  if (field !== "" || fields.length > 0) endRecord();
  return records;
}

/**
 * Returns the first sixteen digits of a content hash, or null if it is not one. The prefix `b3:` is
 * optional, and more digits are allowed.
 */
function digitsOf(content) {
  const digits = content.replace(/^b3:/, "").toLowerCase();
  return /^[0-9a-f]{16,64}$/.test(digits) ? digits.slice(0, 16) : null;
}

/** Reads the decisions of a review.csv. Errors name the line, what was found and is allowed. */
function readReview(text) {
  const [head, ...records] = parseCsv(text);
  const names = head?.fields ?? [];
  const columnOf = Object.fromEntries(COLUMNS.map((name) => [name, names.indexOf(name)]));
  if (["id", "decision", "label"].some((name) => columnOf[name] < 0)) {
    throw new Error(`line 1: found ${JSON.stringify(names.join(","))}, expected ${COLUMNS.join(",")}`);
  }
  const seen = new Set();
  const read = ({ line, fields }) => {
    while (fields.length > names.length && fields.at(-1) === "") fields.pop();
    if (fields.length !== names.length) throw new Error(`line ${line}: ${fields.length} fields, expected ${names.length}`);
    const [id, content, file, decision, label, note] =
      COLUMNS.map((name) => (columnOf[name] < 0 ? "" : unescaped(fields[columnOf[name]])));
    // A table of candidates has rows without a decision.
    if (decision === "") return null;
    if (!/^\d{1,10}$/.test(id)) throw new Error(`line ${line}: ${JSON.stringify(id)} is not an id; expected a whole number`);
    if (seen.has(Number(id))) throw new Error(`line ${line}: image ${id} appears twice`);
    seen.add(Number(id));
    if (!DECISIONS.includes(decision)) {
      throw new Error(`line ${line}: ${JSON.stringify(decision)} is not a decision; allowed: ${DECISIONS.join(", ")}`);
    }
    const labelled = decision === "accept" || decision === "relabel";
    if (labelled && !CLASSES.includes(label)) {
      throw new Error(`line ${line}: ${JSON.stringify(label)} is not a class; allowed: ${CLASSES.join(", ")}`);
    }
    if (content !== "" && digitsOf(content) === null) {
      throw new Error(`line ${line}: content ${JSON.stringify(content)} is not the hash of an image; expected b3: and 16 hexadecimal digits, or nothing`);
    }
    const row = ROW_OF_ID.get(Number(id));
    if (content !== "" && row !== undefined && digitsOf(content) !== digitsOf(ROWS.content[row])) {
      const [then, now] = [[content, file], [ROWS.content[row], ROWS.file[row]]]
        .map(([hash, name]) => (name === "" ? hash : `${hash} (${name})`));
      throw new Error(`line ${line}: image ${id} is a different image than when this line was written: `
        + `it was ${then}, it is now ${now}; change the id of this line to the current id of its image, or remove the line`);
    }
    return [Number(id), { decision, label: labelled ? label : "", note, content, file }];
  };
  return records.map(read).filter((entry) => entry !== null);
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
