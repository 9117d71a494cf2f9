/** A test's page keeps every fetch() call here, as "METHOD address". */
interface Window {
  calls: string[];
}
