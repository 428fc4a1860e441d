// The page: the form, the episode that is being written, and the last ones.

import { drawCard, titleOf } from "./card.js";
import { perform } from "./episode.js";
import { keepUp, startFollowing } from "./follow.js";
import { asked, clearErrors, setForm, showErrors, watchForm } from "./form.js";
import { onClick } from "./links.js";
import { Manuscript } from "./manuscript.js";
import { fieldsOf, newSeed, permalink } from "./permalink.js";
import { recent, remember } from "./recent.js";
import { drawShelf } from "./shelf.js";
import { report, speak } from "./status.js";

const byId = (id) => document.getElementById(id);
const address = document.querySelector("form").action;
const article = byId("episode");
const site = document.title;
const weak = new Set(byId("card").dataset.weakEndings.split(" "));
const untitled = byId("title").textContent;
const titled = (opening) => titleOf(opening, weak) || untitled;
const welcome = article.firstElementChild;

const manuscript = new Manuscript(article, keepUp);
let episode = null; // the fields of the one on the stage
let seed = newSeed(); // that of the next one
let abort = new AbortController();

// --- What is on the page ---

function setTitle(title, ofSeed) {
  drawCard(byId("card"), ofSeed, title);
  byId("title").textContent = title;
  byId("take").textContent = ofSeed;
}

/** The stage is now this episode's. entry: what the history gets, pushState's or replaceState's. */
function present(fields, entry) {
  abort.abort();
  abort = new AbortController();
  clearErrors();
  // Room for all of it: nothing below has to move.
  article.style.setProperty("--length", Math.min(fields.length, byId("length").max));
  name(fields, entry);
}

function name(fields, entry) {
  episode = fields;
  const title = titled(fields.prefix);
  setTitle(title, Number(fields.seed));
  document.title = `${title} · ${site}`;
  byId("link").href = permalink(fields);
  history[entry](null, "", permalink(fields));
}

/** The stage before the first episode; its card is for the opening in the form. */
function clear() {
  abort.abort();
  manuscript.halt();
  episode = null;
  document.title = site;
  article.replaceChildren(welcome);
  setTitle(titled(asked().prefix), seed);
  report("idle");
}

/** An episode that is here already. */
function show({ fields, text }, entry) {
  present(fields, entry);
  manuscript.show(fields.prefix, text);
  report("kept");
}

// --- Writing ---

function begin(fields, entry = "pushState") {
  present(fields, entry);
  manuscript.begin(fields.prefix);
  startFollowing();
  write();
}

function goOn() {
  abort = new AbortController();
  manuscript.resume();
  startFollowing();
  write();
}

async function write() {
  const { signal } = abort;
  const fields = episode;
  let began = performance.now();
  let words = 0;
  try {
    for await (const { state, text, record, wrong, problem, ...numbers } of perform(address, fields, signal)) {
      if (state === "writing") {
        words += text.split(/\s+/).length - 1;
        manuscript.receive(text);
        report(state, { speed: words / ((performance.now() - began) / 1000) });
      } else if (state === "done") {
        await finish(fields, record, signal);
      } else {
        if (state === "broken" || problem) await manuscript.finish();
        else began = performance.now();
        if (signal.aborted) return;
        if (wrong) manuscript.halt();
        report(wrong && !showErrors(wrong) ? "damaged" : state, { ...numbers, ...problem });
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function finish(wanted, record, signal) {
  const fields = { ...wanted, prefix: record.prefix };
  remember({ fields, text: record.text });
  drawShelf(titled, reopen);
  await manuscript.finish(record.text);
  if (signal.aborted) return;
  if (fields.prefix !== wanted.prefix) {
    name(fields, "replaceState"); // it is the server's own opening, which only the record tells
    manuscript.show(fields.prefix, record.text);
  }
  const numbers = {
    tokens: record.usage.completion_tokens,
    seconds: record.timing.total_s - record.timing.queue_s,
    speed: record.timing.tokens_per_s,
  };
  report("done", numbers, record.text);
}

function stop() {
  abort.abort();
  manuscript.halt();
  report("stopped");
}

/** From the list of the last ones. */
function reopen(kept) {
  setForm(kept.fields);
  show(kept, "pushState");
  article.focus();
}

/** The link itself says how it went. */
async function copyLink() {
  const link = byId("link");
  const outcome = await navigator.clipboard?.writeText(link.href).then(() => "copied", () => "not-copied");
  label(link, outcome ?? "not-copied"); // a page without TLS may not write to the clipboard
  setTimeout(() => label(link, "copy"), 4000);
}

function label(link, name) {
  for (const span of link.children) span.hidden = span.dataset.label !== name;
  if (name !== "copy") speak(link.textContent);
}

// --- The reader ---

/** What the address asks for: an episode, if it has a seed, out of `kept` where it is there; else a filled form. */
function arrive(kept) {
  const fields = fieldsOf(location);
  const opening = asked().prefix;
  const unsent = opening && opening !== episode?.prefix; // an opening that somebody has begun stays
  setForm(unsent ? { ...fields, prefix: opening } : fields);
  if (!fields.seed) return clear();
  const wanted = { ...asked(), prefix: "", ...fields };
  const found = kept.find((one) => permalink(one.fields) === permalink(wanted));
  if (found) show(found, "replaceState");
  else begin(wanted, "replaceState");
}

watchForm(
  () => {
    begin({ ...asked(), seed: String(seed) });
    seed = newSeed();
  },
  () => episode || setTitle(titled(asked().prefix), seed),
);
byId("stop").addEventListener("click", stop);
byId("continue").addEventListener("click", goOn);
byId("again").addEventListener("click", () => begin({ ...episode, seed: String(newSeed()) }));
onClick(byId("link"), copyLink);
addEventListener("keydown", ({ key }) => key === "Escape" && !byId("stop").hidden && stop());
addEventListener("popstate", () => arrive(recent()));
drawShelf(titled, reopen);
arrive([]);
