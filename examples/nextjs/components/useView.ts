import { type RefObject, useEffect } from "react";

const SHARE = 0.5;
const DWELL = 1_000;

/** Calls `onView` once, after at least half of the element was on the screen for a second. */
export function useView(element: RefObject<HTMLElement | null>, onView: () => void): void {
  useEffect(() => {
    if (element.current === null) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const observer = new IntersectionObserver(
      ([entry]) => {
        clearTimeout(timer);
        if (entry === undefined || entry.intersectionRatio < SHARE) return;
        timer = setTimeout(() => {
          observer.disconnect();
          onView();
        }, DWELL);
      },
      { threshold: SHARE },
    );
    observer.observe(element.current);
    return () => {
      clearTimeout(timer);
      observer.disconnect();
    };
  }, [element, onView]);
}
