"""Opens the HTML parts of messages in a browser, and checks that they fit into narrow windows.

Reads JSON lines `{"kind": …, "html": …}`. With MESSAGE_SCREENSHOTS=FOLDER it saves a picture of each message at a width
of 400 pixels.
"""

import json
import os
import sys

from playwright.sync_api import sync_playwright

pictures = os.environ.get("MESSAGE_SCREENSHOTS")
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
    for line in sys.stdin:
        message = json.loads(line)
        for scheme in ("light", "dark"):
            for width in (320, 400, 900):
                page = browser.new_page(viewport={"width": width, "height": 300}, color_scheme=scheme)
                page.set_content(message["html"])
                needed = page.evaluate("document.documentElement.scrollWidth")
                assert needed <= width, f"{message['kind']} needs {needed} pixels of {width}"
                box = page.locator("h1").bounding_box()
                assert box["width"] <= 600, box
                if pictures and width == 400 and scheme == "light":
                    page.screenshot(path=f"{pictures}/{message['kind']}.png", full_page=True)
                page.close()
    browser.close()
