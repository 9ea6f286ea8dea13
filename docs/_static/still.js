// Pictures that move stand still for readers who ask for less motion: the first frame of each is drawn in its place.
document.addEventListener("DOMContentLoaded", () => {
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  document.querySelectorAll("article img[src$='.webp'], article img[src$='.gif']").forEach(async (moving) => {
    await moving.decode();
    const still = document.createElement("canvas");
    still.width = moving.naturalWidth;
    still.height = moving.naturalHeight;
    still.className = "still";
    still.setAttribute("role", "img");
    still.setAttribute("aria-label", moving.alt);
    still.getContext("2d").drawImage(moving, 0, 0);
    moving.replaceWith(still);
  });
});
