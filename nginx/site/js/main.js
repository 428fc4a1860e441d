// The page: the form, the episode that is being written, and the last ones.

import { drawCard, titleOf } from "./card.js";
import { perform } from "./episode.js";
import { keepUp, startFollowing } from "./follow.js";
import { asked, clearErrors, setForm, showErrors, watchForm } from "./form.js";
import { Manuscript } from "./manuscript.js";
import { fieldsOf, newSeed, permalink } from "./permalink.js";
import { remember } from "./recent.js";
import { drawShelf } from "./shelf.js";
import { report, speak } from "./status.js";

const byId = (id) => document.getElementById(id);
const address = document.querySelector("form").action;
const site = document.title;
const weak = new Set(byId("card").dataset.weakEndings.split(" "));
const titled = (opening) => titleOf(opening, weak);

const manuscript = new Manuscript(byId("episode"), keepUp);
let episode = null; // the fields of the one on the page
let seed = newSeed(); // that of the next one
let abort = new AbortController();

// --- What is on the page ---------------------------------------------------------------------------------------

function setTitle(title, ofSeed) {
  drawCard(byId("card"), ofSeed, title);
  byId("title").textContent = title;
  byId("take").textContent = ofSeed;
}

/** The page is now about the episode of these fields; its address too, if it is a new one. */
function present(fields, isNew) {
  abort.abort();
  abort = new AbortController();
  clearErrors();
  episode = fields;
  const title = titled(fields.prefix);
  setTitle(title, Number(fields.seed));
  document.title = `${title} · ${site}`;
  byId("link").href = permalink(fields);
  byId("episode").style.setProperty("--length", fields.length); // room for all of it: nothing below has to move
  if (isNew) history.pushState(null, "", permalink(fields));
}

// --- Writing ---------------------------------------------------------------------------------------------------

function begin(fields, isNew = true) {
  present(fields, isNew);
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
    for await (const { state, text, record, problem, ...numbers } of perform(address, fields, signal)) {
      if (state === "writing") {
        words += text.split(/\s+/).length - 1;
        manuscript.receive(text);
        report(state, { speed: words / ((performance.now() - began) / 1000) });
      } else if (state === "done") {
        await finish(fields, record, signal);
      } else {
        if (state !== "broken") began = performance.now();
        if (state === "broken") await manuscript.finish();
        if (problem) manuscript.halt();
        const atField = state === "refused" && showErrors(problem.errors ?? []);
        if (!signal.aborted) report(state === "refused" && !atField ? "failed" : state, { ...numbers, ...problem });
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function finish(fields, record, signal) {
  remember({ fields, text: record.text });
  drawShelf(titled, reopen);
  await manuscript.finish(record.text);
  if (signal.aborted) return;
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

/** From the list of the last ones: it is here already. */
function reopen({ fields, text }) {
  present(fields, true);
  setForm(fields);
  manuscript.show(fields.prefix, text);
  report("kept");
  byId("episode").focus();
}

/** The link itself says how it went. */
async function copyLink(event) {
  event.preventDefault();
  const link = event.currentTarget;
  const outcome = await navigator.clipboard?.writeText(link.href).then(() => "copied", () => "not-copied");
  label(link, outcome ?? "not-copied"); // a page without TLS may not write to the clipboard
  setTimeout(() => label(link, "copy"), 4000);
}

function label(link, name) {
  for (const span of link.children) span.hidden = span.dataset.label !== name;
  if (name !== "copy") speak(link.textContent);
}

// --- The reader ------------------------------------------------------------------------------------------------

/** What the address asks for: an episode, if it has a seed; else a filled form. */
function arrive() {
  const fields = fieldsOf(location);
  setForm(fields);
  if (fields.prefix && fields.seed) begin({ ...asked(), ...fields }, false);
  else setTitle(fields.prefix ? titled(fields.prefix) : byId("title").textContent, seed);
}

watchForm(
  () => {
    begin({ ...asked(), seed: String(seed) });
    seed = newSeed();
  },
  () => setTitle(titled(asked().prefix), seed),
);
byId("stop").addEventListener("click", stop);
byId("continue").addEventListener("click", goOn);
byId("again").addEventListener("click", () => begin({ ...episode, seed: String(newSeed()) }));
byId("link").addEventListener("click", copyLink);
addEventListener("keydown", ({ key }) => key === "Escape" && !byId("stop").hidden && stop());
addEventListener("popstate", () => location.reload());
drawShelf(titled, reopen);
arrive();
