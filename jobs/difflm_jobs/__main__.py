"""`python -m difflm_jobs` is the command line, so that a cluster needs no installed script."""

from difflm_jobs.cli.main import main

if __name__ == "__main__":
    main()
