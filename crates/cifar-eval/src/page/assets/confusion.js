// The overview: counts by category, and a confusion matrix whose cells open their images.

function setUpOverview() {
  const split = byId("confusion-split");
  split.replaceChildren(option("", "all"), ...DATA.splits.map((name, at) => option(at, name)));
  const test = DATA.splits.indexOf("test");
  if (ROWS.split.includes(test)) split.value = String(test);
  split.addEventListener("change", showConfusion);
  showConfusion();
  showCategories();
  reviewListeners.push(showCategories);
}

function showCategories() {
  const counts = new Map(FLAGGED.map((name) => [name, { images: 0, decided: 0 }]));
  for (let row = 0; row < COUNT; row++) {
    const count = counts.get(categoryOf(row));
    if (!count) continue;
    count.images++;
    if (decisions.has(ROWS.id[row])) count.decided++;
  }
  byId("categories").replaceChildren(...[...counts].map(([name, { images, decided }]) => {
    const card = make("button", { type: "button", className: "card", onclick: () => show({ ...EVERYTHING, category: String(DATA.categories.indexOf(name)) }) },
      make("span", { className: "name", textContent: name }),
      make("span", { className: "big", textContent: grouped(images) }),
      make("span", { className: "faint", textContent: `${percent(images / COUNT)} of images · ${grouped(decided)} reviewed` }));
    card.style.setProperty("--category", colourOf(name));
    return card;
  }));
}

function showConfusion() {
  const chosen = byId("confusion-split").value;
  const n = CLASSES.length;
  const counts = new Uint32Array(n * n);
  for (let row = 0; row < COUNT; row++) {
    if (chosen === "" || ROWS.split[row] === Number(chosen)) counts[ROWS.label[row] * n + ROWS.predicted[row]]++;
  }
  const head = make("tr", {}, make("th", { scope: "col", className: "corner", textContent: "label ↓ predicted →" }),
    ...CLASSES.map((name) => make("th", { scope: "col" }, make("span", { textContent: name }))), make("th", { scope: "col" }, make("span", { textContent: "recall" })), make("th", { scope: "col" }, make("span", { textContent: "n" })));
  const lines = CLASSES.map((name, label) => {
    const total = counts.subarray(label * n, (label + 1) * n).reduce((sum, count) => sum + count, 0);
    const cells = CLASSES.map((other, predicted) => cell(counts[label * n + predicted], total, label, predicted, chosen));
    const recall = total > 0 ? percent(counts[label * n + label] / total) : "–";
    return make("tr", {}, make("th", { scope: "row", textContent: name }), ...cells, make("td", { className: "number", textContent: recall }), make("td", { className: "number", textContent: grouped(total) }));
  });
  const table = make("table", { className: n > 20 ? "confusion small" : "confusion" },
    make("caption", { className: "hidden", textContent: "Confusion matrix" }), make("thead", {}, head), make("tbody", {}, ...lines));
  byId("confusion").replaceChildren(table);
}

function cell(count, total, label, predicted, split) {
  if (count === 0) return make("td", {});
  const fraction = count / total;
  const control = make("button", {
    type: "button",
    textContent: CLASSES.length > 20 ? "" : grouped(count),
    title: `${CLASSES[label]} → ${CLASSES[predicted]}: ${grouped(count)} of ${grouped(total)}, ${percent(fraction)}`,
    "aria-label": `${grouped(count)} of ${grouped(total)} images labelled ${CLASSES[label]} are predicted as ${CLASSES[predicted]}; show them`,
    "data-pair": `${label}-${predicted}`,
    onclick: () => show({ ...EVERYTHING, label: String(label), predicted: String(predicted), split }),
  });
  // The square root makes rare confusions visible.
  const shade = Math.round(Math.sqrt(fraction) * 100);
  control.style.setProperty("--shade", `${shade}%`);
  control.className = `${label === predicted ? "right" : "wrong"}${shade > 55 ? " deep" : ""}`;
  return make("td", {}, control);
}
