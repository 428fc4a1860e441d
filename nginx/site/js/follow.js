// Keeps the line that is being written in view, until the reader scrolls back.

const MARGIN = 120; // pixels below the last line

const stage = document.getElementById("stage");
const article = document.getElementById("episode");
let following = false;
let at = scrollY;

addEventListener("scroll", () => {
  if (scrollY < at) following = false;
  at = scrollY;
});

/** From now on; the top of the stage comes into view if the text would begin too far down. */
export function startFollowing() {
  const { top } = article.getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.8) stage.scrollIntoView({ behavior: "instant" });
  at = scrollY;
  following = true;
}

/** To be called when the text grew. */
export function keepUp() {
  if (!following) return;
  const hidden = article.lastElementChild.getBoundingClientRect().bottom + MARGIN - innerHeight;
  if (hidden > 0) scrollBy({ top: hidden, behavior: "instant" });
}
