// Blind rating. The order of the trials is a function of rater, seed and mode, so only the answers are stored.

const MODES = { ab: "Which is better?", mos: "How natural does it sound?" };
const SCORES = ["bad", "poor", "fair", "good", "excellent"];
const STORE = `voice-factory-ratings/${content.key}`;
const rated = columns.flatMap((column, place) => column.rated ? [place] : []);
let session = load(), trial = null;

function load() {
  try { return JSON.parse(localStorage.getItem(STORE)); } catch { return null; }
}

function save() {
  try { localStorage.setItem(STORE, JSON.stringify(session)); return true; } catch { return false; }
}

function randomNumbers(seed) { // Mulberry32
  let state = seed >>> 0;
  return () => {
    state = state + 0x6d2b79f5 >>> 0;
    let mixed = Math.imul(state ^ state >>> 15, state | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
}

const hash = (text) => [...text].reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 16777619), 2166136261);

function shuffled(items, random) {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const other = Math.floor(random() * (i + 1));
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}

// A trial is an utterance with the column of one sound (opinion) or of two in random order (preference).
function trialsOf({ rater, seed, mode, sides }) {
  const random = randomNumbers(hash(`${rater}/${seed}/${mode}`));
  if (mode === "ab") return shuffled(utterances, random).map((utterance) => ({ utterance, places: random() < 0.5 ? sides : [...sides].reverse() }));
  return shuffled(utterances.flatMap((utterance) => rated.map((place) => ({ utterance, places: [place] }))), random);
}

function showRating() {
  stop();
  at("browsing").hidden = true;
  at("rating").hidden = false;
  document.body.classList.add("rating"); // hides figures and names, which would reveal the versions
  session ? showTrial() : showSetUp();
}

function leaveRating() {
  stop();
  trial = null;
  at("rating").hidden = true;
  at("browsing").hidden = false;
  document.body.classList.remove("rating");
  at("rate").focus();
  at("rate").textContent = session ? "Resume rating" : "Rate blind";
  drawAll();
}

const button = (text, onclick, more = {}) => element("button", { type: "button", textContent: text, onclick, ...more });
const second = (text, onclick, more = {}) => button(text, onclick, { className: "second", ...more });
const row = (className, ...children) => element("div", { className }, ...children);

function showSetUp() {
  const field = (text, input) => element("label", {}, text, input);
  const mode = (value, text) => element("label", { className: "check" },
    element("input", { type: "radio", name: "mode", value, checked: value === "ab" }), ` ${text}`);
  const side = (chosen) => element("select", {}, ...rated.map((place) => new Option(columns[place].name, place, false, place === chosen)));
  const sides = spoken.length > 1 ? spoken.slice(0, 2).map(side) : [rated[0], spoken[0]].map(side);
  const rater = element("input", { required: true, maxLength: 60, autocomplete: "off" });
  const seed = element("input", { type: "number", min: 0, max: 999999, required: true, value: Math.floor(Math.random() * 1e6) });
  const modes = element("div", { className: "choices", role: "radiogroup", label: "Rating mode" },
    mode("ab", "A/B: which of two versions is better"), mode("mos", "Opinion: each sound from 1 to 5"));
  const pair = row("choices", field("Compare ", sides[0]), field("with ", sides[1]));
  const problem = words("p", "warning", "Choose two different versions.", { role: "alert", hidden: true });
  const form = element("form", {}, row("choices", field("Your name ", rater), field("Seed of the order ", seed)), modes, pair, problem,
    row("buttons", element("button", { textContent: "Start" }), second("Back", leaveRating)));
  form.addEventListener("change", () => { pair.hidden = form.elements.mode.value === "mos"; });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const places = sides.map((select) => Number(select.value)), chosen = form.elements.mode.value;
    problem.hidden = chosen === "mos" || places[0] !== places[1];
    if (!problem.hidden) return;
    session = { rater: rater.value.trim() || "anonymous", seed: Number(seed.value), mode: chosen, sides: places, answers: { ab: [], mos: [] } };
    showTrial();
  });
  const loudness = at("match").checked ? "at the same loudness, as selected above the list"
    : "at their original level; select “Same loudness” above the list to change that";
  at("rating").replaceChildren(words("h3", "", "Rate blind"), words("p", "soft", "Versions are named only at the end. Name and seed determine the order "
    + "of the utterances and of A and B; opinions include the unnamed recordings. Answers are stored in this browser until they are exported, so you "
    + `can resume later. Sounds play ${loudness}.`), form);
  rater.focus();
}

function showTrial() {
  const trials = trialsOf(session), answers = session.answers[session.mode], kept = save(), pairs = session.mode === "ab";
  if (answers.length >= trials.length) { showEnd(); return; }
  trial = { ...trials[answers.length], heard: new Set() };
  const plays = (pairs ? ["Play A", "Play B"] : ["Play"]).map((text, side) => second(text, () => hear(side)));
  const choices = pairs ? [["A is better", "a", "1"], ["No preference", "none", "0"], ["B is better", "b", "2"]]
    : SCORES.map((name, i) => [`${i + 1} ${name}`, i + 1, String(i + 1)]);
  const state = [`${answers.length + 1} of ${trials.length}`, `rater ${session.rater}`, `seed ${session.seed}`];
  if (at("match").checked) state.push("same loudness");
  if (!kept) state.push("answers cannot be stored in this browser: export them before you close the page");
  at("rating").replaceChildren(
    words("h3", "", MODES[session.mode], { id: "question", tabIndex: -1 }),
    element("progress", { max: trials.length, value: answers.length, label: "Progress" }),
    words("p", "soft", state.join(" · "), { role: "status", id: "progress" }),
    words("p", "said", trial.utterance.text, { lang: trial.utterance.lang }), row("buttons", ...plays),
    row("buttons answers", ...choices.map(([text, value, ariaKeyShortcuts]) =>
      button(text, () => answer(value), { className: "answer", disabled: true, ariaKeyShortcuts }))),
    words("p", "note", `Answers are enabled once ${pairs ? "both sounds have" : "the sound has"} been played.`), foot(answers.length > 0));
  at("question").focus({ preventScroll: true });
}

function foot(undoable) {
  return row("buttons", second("Undo", undo, { disabled: !undoable }), second("Export ratings", exportRatings), second("Start over", startOver),
    second("Back", leaveRating));
}

function hear(side) {
  if (!trial || side >= trial.places.length) return;
  trial.heard.add(side);
  play(trial.utterance, trial.places[side]);
  if (trial.heard.size === trial.places.length) for (const choice of at("rating").querySelectorAll(".answer")) choice.disabled = false;
}

function answer(value) {
  stop();
  sounds.clear();
  const names = trial.places.map((place) => columns[place].rated), utterance_id = trial.utterance.id;
  const given = session.mode === "ab" ? { a: names[0], b: names[1], preferred: value } : { experiment: names[0], score: value };
  session.answers[session.mode].push({ utterance_id, ...given });
  showTrial();
}

function undo() {
  stop();
  if (session.answers[session.mode].pop()) showTrial();
}

function startOver() {
  if (!confirm("Discard the answers on this page that were not exported?")) return;
  session = null;
  localStorage.removeItem(STORE);
  showSetUp();
}

function showEnd() {
  trial = null;
  const { ab, mos } = session.answers, other = session.mode === "ab" ? "mos" : "ab";
  const lines = [];
  for (const name of new Set(ab.map((given) => given[given.preferred] ?? ""))) {
    const n = ab.filter((given) => (given[given.preferred] ?? "") === name).length;
    lines.push(`${name ? `${name} preferred` : "no preference"}: ${n} of ${ab.length}`);
  }
  for (const name of new Set(mos.map((given) => given.experiment))) {
    const scores = mos.filter((given) => given.experiment === name).map((given) => given.score);
    lines.push(`${name}: ${(scores.reduce((sum, score) => sum + score) / scores.length).toFixed(2)} on average, ${scores.length} scores`);
  }
  const continueButton = second(other === "mos" ? "Continue with opinions" : "Continue with A/B", () => { session.mode = other; showTrial(); });
  continueButton.hidden = session.answers[other].length >= trialsOf({ ...session, mode: other }).length;
  const advice = content.experiments.length > 1 ? "Export the ratings and pass them to the comparison: make compare … RATINGS=FILE"
    : `The export names this voice “${content.experiments[0]}”. For make compare … RATINGS=FILE, rate on the page of a comparison.`;
  at("rating").replaceChildren(words("h3", "", "Finished: thank you", { id: "question", tabIndex: -1 }),
    element("ul", {}, ...lines.map((line) => words("li", "", line))), words("p", "soft", advice), row("buttons", continueButton), foot(true));
  at("question").focus({ preventScroll: true });
}

function exportRatings() {
  const file = { kind: "voice-factory-ratings", version: 1, rater: session.rater, ab: session.answers.ab, mos: session.answers.mos };
  const address = URL.createObjectURL(new Blob([JSON.stringify(file, null, 2) + "\n"], { type: "application/json" }));
  element("a", { href: address, download: `ratings-${session.rater.replace(/[^\p{L}\p{N}_-]+/gu, "-")}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

const choosing = { a: () => hear(0), b: () => hear(1), 1: () => choose(0), 0: () => choose(1), 2: () => choose(2) };
const scoring = { " ": () => hear(0), ...Object.fromEntries(SCORES.map((_, i) => [i + 1, () => choose(i)])) };

function choose(place) {
  const choice = at("rating").querySelectorAll(".answer")[place];
  if (!choice.disabled) choice.click();
}
