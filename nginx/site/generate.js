// Shows the episode on the page. Without this script the form still works: the browser shows the JSON itself.

const form = document.querySelector("form");
const button = form.querySelector("button");
const status = document.querySelector("#status");
const episode = document.querySelector("#episode");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  status.textContent = "Writing …";
  episode.hidden = true;
  try {
    const query = new URLSearchParams(new FormData(form));
    const response = await fetch(`${form.action}?${query}`);
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail ?? answer.title);
    status.textContent = `Seed ${answer.seed}`;
    episode.textContent = answer.text;
    episode.hidden = false;
    episode.focus();
  } catch (error) {
    status.textContent = `No episode this time. ${error.message}`;
  } finally {
    button.disabled = false;
  }
});
