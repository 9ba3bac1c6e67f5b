// Shows the regions whose score reaches the slider; no server is asked.
(least) => {
  let shown = 0;
  document.querySelectorAll("[data-score]").forEach((el) => {
    el.hidden = Number(el.dataset.score) < least;
    if (!el.hidden && el.classList.contains("mg-row")) shown += 1;
  });
  document.querySelectorAll("[data-shown]").forEach((el) => { el.textContent = String(shown); });
  return [];
}
