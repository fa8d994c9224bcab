import sys

from convlens.server.main import main

sys.exit(main())
