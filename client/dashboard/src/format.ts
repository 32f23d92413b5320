/** Numbers and times for people. */

/** How long something lasts or is ago: two units at most, nothing below a second. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) {
    const rest = seconds % 60;
    return minutes < 10 && rest > 0 ? `${minutes} min ${rest} s` : `${minutes} min`;
  }
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 > 0 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

/** A time of day, with the day where it is another. */
export function clockTime(at: number, now: number): string {
  const time = new Date(at).toLocaleTimeString([], { hour12: false });
  if (new Date(at).toDateString() === new Date(now).toDateString()) return time;
  const day = new Date(at).toLocaleDateString([], { day: "numeric", month: "short" });
  return `${day} ${time}`;
}

/** A number with three or four figures that matter. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return value.toExponential(2);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const digits = size >= 100 ? 1 : size >= 1 ? 2 : 4;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** A share from 0 to 1 as percent. */
export function percent(share: number | null): string {
  if (share === null) return "–";
  const hundredths = share * 100;
  return `${hundredths > 0 && hundredths < 10 ? hundredths.toFixed(1) : Math.round(hundredths)} %`;
}

/** A count with its noun. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** A moment on an axis: as much of it as marks so many seconds apart need. */
export function axisTime(seconds: number, step: number): string {
  const at = new Date(seconds * 1000);
  const two = (part: number): string => String(part).padStart(2, "0");
  if (step >= 86_400) return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const minutes = `${two(at.getHours())}:${two(at.getMinutes())}`;
  if (step >= 60) return minutes;
  const whole = `${minutes}:${two(at.getSeconds())}`;
  return step >= 1 ? whole : `${whole}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}
