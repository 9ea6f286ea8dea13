// What screen readers and keyboards need, and the theme leaves out.
document.addEventListener("DOMContentLoaded", () => {
  const each = (selector, name, value) => document.querySelectorAll(selector).forEach((found) => found.setAttribute(name, value));
  each(".caption[role=heading]", "aria-level", "2");
  each("aside.sidebar-drawer", "aria-label", "All pages");
  each("aside.toc-drawer", "aria-label", "On this page");
  // The parameters of a long signature are a list without terms.
  each(".sig dl", "role", "presentation");
  // What is too wide scrolls, also by keys.
  const wide = "pre, .table-wrapper";
  const reach = () => document.querySelectorAll(wide).forEach((found) => {
    if (found.scrollWidth > found.clientWidth) found.tabIndex = 0;
    else found.removeAttribute("tabindex");
  });
  reach();
  addEventListener("resize", reach);
});
