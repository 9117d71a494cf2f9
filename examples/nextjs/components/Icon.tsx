const PATHS = {
  heart:
    "M12 20.3 4.6 13a4.7 4.7 0 0 1 0-6.7 4.8 4.8 0 0 1 6.7 0l.7.7.7-.7a4.8 4.8 0 0 1 6.7 0 4.7 4.7 0 0 1 0 6.7Z",
  share:
    "M17 3.5 20.5 7 17 10.5M20 7H7.5A3.5 3.5 0 0 0 4 10.5V12M7 20.5 3.5 17 7 13.5M4 17h12.5a3.5 3.5 0 0 0 3.5-3.5V12",
  away: "M4 4 20 20M9.2 6.4A5.5 5.5 0 0 1 17.4 10a4 4 0 0 1 2.4 6.6M6.4 9.4A4.3 4.3 0 0 0 7.3 18H17",
  why: "M12 3.5 13.9 10.1 20.5 12l-6.6 1.9L12 20.5l-1.9-6.6L3.5 12l6.6-1.9Z",
  not: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17ZM6 6 18 18",
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg className={`icon ${name}`} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
