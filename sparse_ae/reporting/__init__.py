"""From a folder of runs to one table, figures and a page: reads run directories, writes beside them, trains nothing."""
