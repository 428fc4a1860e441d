// Links that the page follows by itself.

/** Does `act` in place of following `link`, unless the reader wants it in a tab of its own, or as a file. */
export function onClick(link, act) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    act();
  });
}
