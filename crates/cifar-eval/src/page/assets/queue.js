// The review queue: one flagged image at a time, hardest first. A decision shows the next image.

/** Decisions between two estimates of how many flags are right. */
const ESTIMATE_EVERY = 20;
/** The row on display; −1 if there is none. */
let queued = -1;
/** The category under review. */
let queueCategory = "";

/** The flagged rows of a category in order. Decisions never apply to test images. */
const queueOf = (category) => {
  const rows = [];
  for (let row = 0; row < COUNT; row++) if (categoryOf(row) === category && splitOf(row) !== "test") rows.push(row);
  return rows;
};
const isDecided = (row) => decisions.has(ROWS.id[row]);

function setUpQueue() {
  // The most serious category comes first, as in `hard_images.csv`.
  const categories = DATA.categories.filter((name) => name !== "" && queueOf(name).length > 0);
  const first = ["likely mislabelled", ...categories].find((name) => categories.includes(name)) ?? "";
  byId("queue-category").replaceChildren(...categories.map((name) => option(name, `${name} (${grouped(queueOf(name).length)})`)));
  byId("queue-category").addEventListener("change", ({ target }) => openQueue(target.value));
  queueCategory = first;
  byId("queue-category").value = first;
  reviewListeners.push(afterDecision);
}

/** Opens the queue of a category at the first image without a decision. */
function openQueue(category = queueCategory) {
  queueCategory = category;
  const rows = queueOf(category);
  queued = rows.find((row) => !isDecided(row)) ?? rows.at(-1) ?? -1;
  showQueue();
}

/** Shows the next image after a decision, and the undone one after an undo. */
function afterDecision(entries, undone) {
  if (byId("view-review").hidden) return;
  const rows = queueOf(queueCategory);
  const changed = entries.length === 1 ? ROW_OF_ID.get(entries[0][0]) : undefined;
  if (queued < 0) return openQueue();
  if (undone && rows.includes(changed)) queued = changed;
  else if (changed === queued && !undone && opened < 0 && !isNote(entries)) {
    const after = rows.slice(rows.indexOf(queued) + 1);
    queued = after.find((row) => !isDecided(row)) ?? rows.find((row) => !isDecided(row)) ?? queued;
    const { right, judged, done } = judgements(rows);
    if (done % ESTIMATE_EVERY === 0 && judged > 0) say(inSentence(right, judged));
  }
  showQueue();
}

/** Whether a change only adds a note to a decision. */
function isNote([[, entry]]) {
  const before = undoSteps.at(-1)?.[0][1];
  return before && entry && before.decision === entry.decision && before.label === entry.label && before.note !== entry.note;
}

/** Moves to another image of the queue, decided or not. */
function skip(by) {
  const rows = queueOf(queueCategory);
  const next = rows.indexOf(queued) + by;
  if (next < 0 || next >= rows.length) return say(by > 0 ? "This is the last image of the queue." : "This is the first image of the queue.");
  queued = rows[next];
  showQueue();
}

/** Counts decisions, and how many flags they confirm: dropped images are not judged. */
function judgements(rows) {
  const made = rows.map((row) => decisions.get(ROWS.id[row])?.decision).filter((decision) => decision !== undefined);
  const right = made.filter((decision) => decision === "accept" || decision === "relabel").length;
  return { done: made.length, right, judged: right + made.filter((decision) => decision === "dismiss").length };
}

/** Returns the 95 % interval of a fraction (Wilson 1927). */
function wilson(right, total) {
  const z = 1.959963984540054;
  const [p, square] = [right / total, (z * z) / total];
  const middle = (p + square / 2) / (1 + square);
  const half = (z / (1 + square)) * Math.sqrt((p * (1 - p)) / total + square / (4 * total));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

function inSentence(right, judged) {
  const [low, high] = wilson(right, judged).map((fraction) => (fraction * 100).toFixed(0));
  return `${grouped(right)} of ${grouped(judged)} flags were right: ${((right / judged) * 100).toFixed(0)} % (95 % interval ${low} to ${high}).`;
}

function showQueue() {
  const box = byId("queue");
  const rows = queueOf(queueCategory);
  if (queued < 0) {
    box.replaceChildren(make("p", { className: "lead", textContent: "No training or validation image is flagged." }));
    return;
  }
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const { done, right, judged } = judgements(rows);
  const at = rows.indexOf(queued);
  box.replaceChildren(
    make("div", { className: "bar" },
      button("queue-previous", "←", "previous image (key k)", () => skip(-1), at <= 0),
      button("queue-next", "→", "next image (key j)", () => skip(1), at === rows.length - 1),
      make("span", { id: "queue-progress", textContent: `${grouped(done)} of ${grouped(rows.length)} reviewed` }),
      make("progress", { max: rows.length, value: done, "aria-label": "reviewed" }),
      judged >= ESTIMATE_EVERY ? make("span", { className: "faint", id: "queue-estimate", textContent: inSentence(right, judged) }) : null),
    ...(done === rows.length ? [make("p", { className: "lead", id: "queue-done", textContent: `All ${grouped(done)} images are reviewed.` })] : []),
    make("div", { className: "detail" },
      make("div", { className: "left" }, largePicture(queued, 320), neighboursOf(queued)),
      make("div", { className: "right" }, headingOf(queued, "queue-title"), reviewOf(queued, "queue-note"))));
  const again = [...box.querySelectorAll("[data-key]")].find((control) => control.dataset.key === focused && !control.disabled);
  if (again) again.focus({ preventScroll: true });
}
