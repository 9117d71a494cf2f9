/** What a test's page keeps: every fetch() it made, as "METHOD address". */
interface Window {
  calls: string[];
}
