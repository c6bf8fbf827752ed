// The image view: the enlarged image, its measures, its neighbours and the review controls.

/** The row in the image view; −1 while the view is closed. */
let opened = -1;

function setUpDetail() {
  const dialog = byId("detail");
  dialog.addEventListener("close", () => {
    // The event arrives shortly after the dialog closed; by then the dialog may show another image.
    if (dialog.open) return;
    opened = -1;
    if (!byId("view-gallery").hidden) goTo(current);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  reviewListeners.push(() => { if (opened >= 0) showDetail(); });
}

/** Opens the image at an index of `matching`. */
function openAt(at) {
  if (at < 0 || at >= matching.length) return;
  if (at !== current) goTo(at);
  openRow(matching[at]);
}

/** Opens any image, even if it does not pass the filters. */
function openRow(row) {
  opened = row;
  const at = matching.indexOf(row);
  if (at >= 0) current = at;
  showDetail();
  const dialog = byId("detail");
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function step(by) {
  const at = matching.indexOf(opened);
  const next = at < 0 ? current : at + by;
  if (next < 0 || next >= matching.length) return say(by > 0 ? "This is the last image." : "This is the first image.");
  goTo(next);
  openRow(matching[next]);
}

function showDetail() {
  const dialog = byId("detail");
  // All controls are recreated, so focus moves to the new copy of the focused one.
  const focused = dialog.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const at = matching.indexOf(opened);
  dialog.replaceChildren(
    make("div", { className: "bar" },
      button("previous", "←", "previous image", () => step(-1), at <= 0),
      button("next", "→", "next image", () => step(1), at < 0 || at === matching.length - 1),
      make("span", { className: "faint", textContent: at < 0 ? "hidden by the filters" : `${grouped(at + 1)} of ${grouped(matching.length)}` }),
      button("close", "✕", "close", () => dialog.close())),
    make("div", { className: "detail" },
      make("div", { className: "left" }, largePicture(opened, 256), reviewOf(opened), neighboursOf(opened)),
      make("div", { className: "right" }, headingOf(opened, "detail-title"), table())));
  const again = [...dialog.querySelectorAll("[data-key]")].find((control) => control.dataset.key === focused && !control.disabled);
  (again ?? dialog.querySelector("[data-key=close]")).focus({ preventScroll: true });
}

function button(key, text, label, onclick, disabled = false) {
  return make("button", { type: "button", textContent: text, title: label, "aria-label": label, "data-key": key, onclick, disabled, autofocus: key === "close" });
}

/** Says what the image is, why it is flagged and what is suggested. */
function headingOf(row, id) {
  const suggested = ROWS.suggested[row];
  const probability = measure("p_suggested", row);
  const lines = [];
  if (categoryOf(row)) {
    const chip = make("span", { className: "chip", textContent: categoryOf(row) });
    chip.style.setProperty("--category", colourOf(categoryOf(row)));
    lines.push(make("p", {}, chip));
  }
  if (reasonOf(row)) lines.push(make("p", { className: "reason", textContent: reasonOf(row) }));
  if (suggested !== null) {
    lines.push(make("p", {}, "Suggested label: ", make("strong", { textContent: CLASSES[suggested] }), probability === null ? null : ` (probability ${formatted(probability)})`));
  }
  if (ROWS.original_label[row] !== ROWS.label[row]) {
    lines.push(make("p", { className: "faint", textContent: `The original label was ${CLASSES[ROWS.original_label[row]]}.` }));
  }
  return make("div", {},
    make("h2", { id }, labelOf(row), isMisclassified(row) ? make("span", { className: "warn", textContent: ` → ${predictedOf(row)}` }) : null),
    make("p", { className: "faint", textContent: `image ${ROWS.id[row]} · ${splitOf(row)} · rank ${grouped(row + 1)} of ${grouped(COUNT)} · ${ROWS.file[row]}` }),
    ...lines);
}

function table() {
  const rows = [...MEASURES.values()].map((column) => {
    const value = column.values[opened];
    const direction = { higher: "Higher is harder", lower: "Lower is harder" }[column.harder];
    return make("tr", { className: value === null ? "empty" : "" },
      make("th", { scope: "row", textContent: column.title }),
      make("td", { className: "number", textContent: formatted(value) }),
      make("td", { className: "faint" }, column.meaning, direction ? make("em", { textContent: ` ${direction}.` }) : null));
  });
  return make("table", { className: "plain measures" }, make("caption", { className: "hidden", textContent: "Measures of this image" }), make("tbody", {}, ...rows));
}

/** The review controls of an image. Its note has the element id `noteId`. */
function reviewOf(row, noteId = "note") {
  const entry = decisions.get(ROWS.id[row]);
  const suggested = ROWS.suggested[row];
  const choice = (name, text, key) => {
    const control = button(name, "", `${text} (key ${key})`, () => decide(row, name), name === "accept" && suggested === null);
    control.append(text, " ", make("kbd", { textContent: key }));
    control.setAttribute("aria-pressed", String(entry?.decision === name));
    return control;
  };
  const labels = CLASSES.map((name, at) => {
    const control = button(`label-${at}`, name, `relabel to ${name}`, () => decide(row, "relabel", name));
    if (at < 10) control.prepend(make("kbd", { textContent: at }), " ");
    control.setAttribute("aria-pressed", String(entry?.decision === "relabel" && entry.label === name));
    return control;
  });
  const text = make("input", { type: "text", id: noteId, value: entry?.note ?? "", placeholder: entry ? "optional" : "decide first", disabled: !entry, "data-key": "note", onchange: ({ target }) => note(row, target.value) });
  return make("section", { className: "review", "aria-label": "Review" },
    make("p", { className: "verdict", textContent: entry ? `Decision: ${inWords(entry)}.` : "No decision yet." }),
    make("div", { className: "choices" },
      choice("accept", suggested === null ? "Accept" : `Accept ${CLASSES[suggested]}`, "a"),
      choice("drop", "Drop", "d"), choice("dismiss", "Dismiss", "x"),
      button("undo", "Undo", "undo (key u)", undo, undoSteps.length === 0)),
    make("div", { className: "labels", role: "group", "aria-label": "Relabel to" }, ...labels),
    make("label", { className: "note" }, "Note ", text));
}

/** The nearest training images, which open on a click. */
function neighboursOf(row) {
  const rows = ROWS.neighbours[row];
  if (rows.length === 0) return make("p", { className: "faint", textContent: "No neighbours were computed for this image." });
  return make("section", { "aria-label": "Neighbours" },
    make("h3", { textContent: "Nearest training images" }),
    make("div", { className: "neighbours" }, ...rows.map((other) => {
      const control = button(`row-${other}`, "", `open image ${ROWS.id[other]}, labelled ${labelOf(other)}, ${splitOf(other)}`, () => openRow(other));
      const same = ROWS.label[other] === ROWS.label[row];
      control.append(picture(other, 56), make("span", { className: same ? "" : "warn", textContent: labelOf(other) }), make("span", { className: "faint", textContent: `#${ROWS.id[other]}` }), make("span", { className: "faint", textContent: splitOf(other) }));
      return control;
    })));
}
