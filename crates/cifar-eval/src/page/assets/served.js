// The review server of `cifar-cli review`: every decision is written into the project at once.
// A page that was opened as a file has no server.

/**
 * `at`: the address of review.csv on the server, or null. `version`: the server's version of the
 * file. `state`: what the page shows about it.
 */
const served = { at: null, version: null, state: "", saving: false, again: false };

/** Loads the decisions of the server's file, if there is a server. */
async function connect() {
  if (location.protocol === "file:") return;
  const at = new URL("review.csv", location.href);
  try {
    const answer = await fetch(at, { cache: "no-store" });
    if (!answer.ok || !answer.headers.get("etag")) return;
    const entries = readReview(await answer.text());
    Object.assign(served, { at, version: answer.headers.get("etag") });
    decisions.clear();
    for (const [id, entry] of entries) decisions.set(id, entry);
    decisionsInFile = new Map(decisions);
    restore();
    tell("saves to labels/review.csv");
    for (const listener of reviewListeners) listener([], false);
    reviewListeners.push(saveToServer);
    // Decisions that an earlier page could not save.
    if (differing().length > 0) await saveToServer();
  } catch (error) {
    say(`review.csv of the project: ${error.message}. Correct it and load the page again.`, true);
  }
}

function tell(state) {
  served.state = state;
  byId("served").textContent = state;
}

/** Writes all decisions. Decisions made during a write are written after it. */
async function saveToServer() {
  if (!served.at || served.saving) { served.again = served.saving; return; }
  served.saving = true;
  tell("saving …");
  try {
    do {
      served.again = false;
      const written = new Map(decisions);
      const answer = await fetch(served.at, { method: "PUT", headers: { "if-match": served.version, "content-type": "text/csv" }, body: reviewCsv() });
      if (!answer.ok) throw new Error(await answer.text());
      served.version = answer.headers.get("etag");
      decisionsInFile = written;
      remember();
    } while (served.again);
    tell(`${grouped(decisionsInFile.size)} saved in labels/review.csv`);
  } catch (error) {
    tell("not saved");
    const reason = error instanceof TypeError ? "the review server does not answer" : error.message;
    say(`Not saved: ${reason}. Click Save review.csv before you close this page; after \`cifar-cli review\`, Load reads it.`, true);
  }
  served.saving = false;
}
