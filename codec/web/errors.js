/** Something that the user can do something about: the message is one line that names the remedy. */
export class CodecError extends Error {}

/** Bytes that should be a `.codes` stream are not, or are damaged. */
export class FormatError extends CodecError {}

/** Raise a CodecError with the message of another, or one that says that the page has a fault. */
export function messageOf(error) {
  if (error instanceof CodecError) return error.message;
  return `The page has failed: ${String(error?.message ?? error).split("\n")[0]}. Reload it.`;
}
