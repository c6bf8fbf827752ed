// Views, theme and keyboard shortcuts, and the setup of all parts.

// A page without features has no map.
const VIEWS = ["overview", "review", "gallery", "map", "pairs", "measures"].filter((name) => byId(`view-${name}`));

function showView() {
  const name = location.hash.slice(1);
  const view = VIEWS.includes(name) ? name : "overview";
  for (const other of VIEWS) byId(`view-${other}`).hidden = other !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
  if (view === "review") openQueue();
  if (view === "gallery") layOut();
  if (view === "overview") showMap();
  if (view === "map") showFeatureMap();
  if (view === "pairs") showPairs();
}

/** Opens the gallery with a filter. */
function show(parts) {
  setFilter(parts);
  location.hash = "#gallery";
}

function setUpTheme() {
  const root = document.documentElement;
  const chosen = store.get("cifar-theme");
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    store.set("cifar-theme", root.dataset.theme);
    showMap();
    showFeatureMap();
  });
}

function setUpReview() {
  byId("save").addEventListener("click", saveReview);
  byId("undo").addEventListener("click", undo);
  byId("load").addEventListener("change", async ({ target }) => {
    if (target.files.length > 0) await loadReview(target.files[0]);
    target.value = "";
  });
  document.querySelector("label[for=load]").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); byId("load").click(); }
  });
  const update = () => {
    byId("save").textContent = decisions.size === 0 ? "Save review.csv" : `Save review.csv (${grouped(decisions.size)})`;
    byId("undo").disabled = undoSteps.length === 0;
  };
  reviewListeners.push(update);
  update();
}

/** The row that review keys act on: the open image, that of the queue, or the selected one in the gallery. */
function selectedRow() {
  if (opened >= 0) return opened;
  if (!byId("view-review").hidden) return queued;
  return byId("view-gallery").hidden || matching.length === 0 ? -1 : matching[current];
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target, key } = event;
  const typing = target.matches("input:not([type=checkbox]), select, textarea");
  if (typing) {
    if (key === "Escape" && !target.closest("dialog")) target.blur();
    if (key === "Enter" && target.dataset.key === "note") target.blur();
    return;
  }
  if (byId("help").open) return;
  // A key may arrive after the dialog closed but before its close event.
  if (!byId("detail").open) opened = -1;
  const gallery = !byId("view-gallery").hidden;
  const actions = {
    "?": () => byId("help").showModal(),
    "/": () => { byId("detail").close(); location.hash = "#gallery"; showView(); byId("search").focus(); },
    s: saveReview,
    u: undo,
    m: toggleActivationMap,
  };
  if (opened >= 0) {
    Object.assign(actions, { j: () => step(1), k: () => step(-1), ArrowRight: () => step(1), ArrowLeft: () => step(-1), n: () => byId("note").focus() });
  } else if (!byId("view-review").hidden) {
    Object.assign(actions, { j: () => skip(1), k: () => skip(-1), ArrowRight: () => skip(1), ArrowLeft: () => skip(-1), n: () => byId("queue-note")?.focus() });
  } else if (gallery) {
    Object.assign(actions, {
      j: () => move(1), k: () => move(-1), ArrowRight: () => move(1), ArrowLeft: () => move(-1),
      ArrowDown: () => move(across), ArrowUp: () => move(-across),
      Home: () => move(-Infinity), End: () => move(Infinity),
      PageDown: () => move(across * 4), PageUp: () => move(-across * 4),
    });
    // On a focused control, Enter activates that control.
    if (!target.closest("button, a, label, summary")) actions.Enter = () => openAt(current);
  }
  const row = selectedRow();
  if (row >= 0) {
    Object.assign(actions, { a: () => decide(row, "accept"), d: () => decide(row, "drop"), x: () => decide(row, "dismiss") });
    CLASSES.slice(0, 10).forEach((name, at) => { actions[at] = () => decide(row, "relabel", name); });
  }
  if (!Object.hasOwn(actions, key)) return;
  event.preventDefault();
  actions[key]();
}

setUpTheme();
setUpReview();
setUpFilters();
setUpGallery();
setUpDetail();
setUpQueue();
setUpMap();
setUpFeatureMap();
setFilter({});
setUpOverview();
byId("help-open").addEventListener("click", () => byId("help").showModal());
addEventListener("hashchange", showView);
addEventListener("keydown", onKey);
showView();
document.documentElement.dataset.ready = "true";
connect();
