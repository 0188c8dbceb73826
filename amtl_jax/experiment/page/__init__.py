"""`amtl report`: one page that says and shows what a run or a study found. Needs no matplotlib."""
