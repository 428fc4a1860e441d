// The text on the page. The server writes faster than anybody reads, and in pieces of many words; here they appear
// word by word, a few in each frame, so that the page never stutters.

const SLOWEST = 160; // characters a second
const CATCH_UP = 0.8; // a second shows at least this share of what is still to be shown
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Manuscript {
  #article;
  #onGrowth;
  #opening = 0; // so many of the first characters are the reader's own
  #received = "";
  #shown = "";
  #complete = false;
  #frame = 0; // the frame that was asked for, or 0
  #time = 0; // that of the last frame
  #settle = () => {};

  /** onGrowth is called after each frame that added text to `article`. */
  constructor(article, onGrowth) {
    this.#article = article;
    this.#onGrowth = onGrowth;
  }

  /** An empty page. */
  begin(opening) {
    this.halt();
    this.#opening = opening.length;
    this.#erase();
    this.resume();
  }

  /** The same text comes once more, from its beginning: what is on the page stays, and the rest is added. */
  resume() {
    this.#received = "";
    this.#complete = false;
    this.#article.ariaBusy = "true";
  }

  receive(text) {
    this.#received += text;
    this.#reconcile();
    this.#ask();
  }

  /** All of the text, or all that will come of it. Resolves when the last word is on the page. */
  finish(text = this.#received.length < this.#shown.length ? this.#shown : this.#received) {
    this.#received = text;
    this.#complete = true;
    this.#reconcile();
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#ask();
    });
  }

  /** Nothing more is shown. */
  halt() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#article.ariaBusy = "false";
  }

  /** The whole text at once. */
  show(opening, text) {
    this.begin(opening);
    this.#add(text);
    this.halt();
  }

  #ask() {
    this.#frame ||= requestAnimationFrame((time) => this.#step(time));
  }

  #step(time) {
    this.#frame = 0;
    const seconds = Math.min((time - this.#time) / 1000, 0.1); // after a pause, a frame like any other
    this.#time = time;
    const left = this.#received.length - this.#shown.length;
    if (left > 0) {
      const wanted = calm.matches ? left : Math.ceil(seconds * Math.max(SLOWEST, CATCH_UP * left));
      this.#add(wholeWords(this.#received.slice(this.#shown.length), wanted));
      this.#onGrowth();
    }
    if (this.#shown.length < this.#received.length) return this.#ask();
    if (this.#complete) {
      this.halt();
      this.#settle();
    }
  }

  /** Where the page does not say what was received (its last sentence was cut, say), it is written anew. */
  #reconcile() {
    if (this.#received.startsWith(this.#shown)) return;
    if (!this.#complete && this.#shown.startsWith(this.#received)) return; // it is still catching up
    this.#erase();
    this.#add(this.#received);
  }

  #erase() {
    this.#shown = "";
    this.#article.replaceChildren(document.createElement("p"));
  }

  /** Appends to the last paragraph; each run of line ends begins another. */
  #add(text) {
    const own = text.slice(0, Math.max(0, this.#opening - this.#shown.length));
    for (const part of own.split(/(\n+)/)) this.#append(part, "mark");
    for (const part of text.slice(own.length).split(/(\n+)/)) this.#append(part);
    this.#shown += text;
  }

  #append(part, tag) {
    if (!part) return;
    const paragraph = this.#article.lastElementChild;
    if (part[0] === "\n") {
      if (paragraph.firstChild) this.#article.append(document.createElement("p"));
      return;
    }
    let parent = paragraph;
    if (tag) parent = paragraph.querySelector(tag) ?? paragraph.appendChild(document.createElement(tag));
    if (parent.lastChild?.nodeType === Node.TEXT_NODE) parent.lastChild.appendData(part);
    else parent.append(part);
  }
}

/** At least `count` characters of `text`, up to the end of a word. */
function wholeWords(text, count) {
  const more = text.slice(count).search(/\s/);
  return more < 0 ? text : text.slice(0, count + more);
}
