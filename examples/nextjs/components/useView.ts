import { type RefObject, useEffect, useRef } from "react";

const SHARE = 0.5;
const DWELL = 1_000;

/**
 * Watches whether half of an element is on the screen: calls `onShown` at the first time, and `onView` after the first
 * second in a row, each once. While `active` is false it waits.
 */
export function useView(
  element: RefObject<HTMLElement | null>,
  active: boolean,
  onShown: () => void,
  onView: () => void,
): void {
  const done = useRef({ shown: false, viewed: false });
  useEffect(() => {
    const { current } = done;
    if (!active || element.current === null || current.viewed) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const observer = new IntersectionObserver(
      ([entry]) => {
        clearTimeout(timer);
        if (entry === undefined || entry.intersectionRatio < SHARE) return;
        if (!current.shown) onShown();
        current.shown = true;
        timer = setTimeout(() => {
          observer.disconnect();
          current.viewed = true;
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
  }, [element, active, onShown, onView]);
}
