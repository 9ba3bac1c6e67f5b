// Runs once in the page: links citations, boxes and list rows, and hides boxes below the score slider.
() => {
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const light = (id) => {
    each(".mg-lit", (el) => el.classList.remove("mg-lit"));
    each(".mg-picture", (el) => el.classList.toggle("mg-focus", id !== null));
    if (id !== null) each(`[data-region="${id}"]`, (el) => el.classList.add("mg-lit"));
  };
  const regionOf = (target) => {
    const el = target instanceof Element && target.closest('[data-region], a[href^="#R"]');
    if (!el) return null;
    const id = el.dataset.region ?? el.getAttribute("href").slice(2);
    return /^\d+$/.test(id) ? id : null;
  };
  let pinned = null;
  document.addEventListener("mouseover", (event) => light(regionOf(event.target) ?? pinned));
  document.addEventListener("focusin", (event) => light(regionOf(event.target) ?? pinned));
  document.addEventListener("click", (event) => {
    const id = regionOf(event.target);
    if (id !== null && event.target.closest("a")) {
      event.preventDefault();
      document.querySelector(".mg-stage")?.scrollIntoView({ block: "nearest", behavior: "smooth" });
    }
    pinned = id === pinned ? null : id;
    light(id === null ? null : pinned);
  }, true);
}
