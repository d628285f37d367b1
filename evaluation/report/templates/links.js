// MLflow shows a report as a blob of no origin, which may not follow a link even to a place of its own.
document.addEventListener("click", event => {
  const link = event.target.closest('a[href^="#"]');
  if (!link || location.protocol !== "blob:") return;
  event.preventDefault();
  const place = document.getElementById(link.getAttribute("href").slice(1));
  place.tabIndex = -1;
  place.focus({preventScroll: true});
  place.scrollIntoView();
});
